#!/bin/sh
# restore.sh: restores a backup when nothing is left but the objects, or nobody trusts anything but tar.
#
#   restore.sh list SOURCE SERVER                                 the backups that there are
#   restore.sh base SOURCE SERVER BACKUP DIRECTORY [OID=PLACE]…   one of them into DIRECTORY, ready for PostgreSQL to start
#   restore.sh wal  SOURCE SERVER FILE PATH                       one WAL file: what `base` writes as restore_command
#
# SOURCE is a directory or s3://bucket/prefix. S3 is read with curl (7.75 and later), by AWS_ACCESS_KEY_ID,
# AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION; AWS_ENDPOINT_URL names a store that is not AWS. From other clouds copy
# the server's prefix into a directory, with the vendor's client. Beside that it takes a POSIX shell, sed, awk, tar, the
# decompressor of the backup (gzip, bzip2, lz4; for .snappy snzip, or python3 with its module snappy; for WAL also xz and zstd)
# and, for an incremental backup, PostgreSQL's pg_combinebackup, in PATH or in PG_BIN.
#
# It writes into DIRECTORY and the tablespaces' places only, all of which must be absent or empty, and deletes nothing anywhere but
# what it made itself. How far recovery goes is PostgreSQL's: put a recovery_target_… into postgresql.auto.conf before it is started.
set -eu
LC_ALL=C
export LC_ALL

die() {
    echo "restore.sh: $*" >&2
    exit "${refusal:-1}"
}

usage() { sed -n 's/^#   /  /p' "$0" >&2; exit 1; }

# ---- Reading objects: `names PREFIX` prints the keys that begin so, `content KEY` what is in one ------------------------------

# Everything but what a URL may have as it is, by bytes.
encode() {
    printf %s "$1" | awk '
        BEGIN { for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i }
        { for (i = 1; i <= length($0); i++) {
            c = substr($0, i, 1)
            if (c ~ /[A-Za-z0-9._~\/-]/) printf "%s", c; else printf "%%%02X", code[c]
        } }'
}

# The secret stays out of the list of processes. Older versions of curl do not say by themselves that nothing is sent.
s3() {
    {
        echo "header = \"x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\""
        printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
        [ -z "${AWS_SESSION_TOKEN:-}" ] || printf 'header = "x-amz-security-token: %s"\n' "$AWS_SESSION_TOKEN"
    } | curl --config - --silent --show-error --fail --retry 3 --path-as-is --aws-sigv4 "aws:amz:$region:s3" "$@"
}

names() {
    case $source in
        s3://*)
            prefix=$(encode "$root$1" | sed 's,/,%2F,g')
            s3 "$endpoint/$bucket?list-type=2&prefix=$prefix" > "$work/page" || return 1
            if grep -q '<IsTruncated>true' "$work/page"; then
                die "more than 1,000 objects below $1: copy them into a directory first"
            fi
            sed 's/<Key>/\n/g' "$work/page" | sed -n 's/^\([^<]*\)<\/Key>.*/\1/p' |
                sed -e 's/&lt;/</g' -e 's/&gt;/>/g' -e 's/&quot;/"/g' -e "s/&apos;/'/g" -e "s/&#39;/'/g" -e 's/&amp;/\&/g' |
                awk -v skip="${#root}" '{ print substr($0, skip + 1) }'
            ;;
        *)
            # A directory that was not mounted is no proof of anything.
            [ -d "$source/$server" ] || die "$source/$server is not there"
            : > "$work/page"
            # Of the directory that the prefix lies in, because a prefix need not end at one.
            inside=${1%/*}
            [ ! -d "$source/$inside" ] || (cd "$source" && find "$inside" -type f) > "$work/page" || return 1
            awk -v prefix="$1" 'index($0, prefix) == 1' "$work/page"
            ;;
    esac
}

content() {
    case $source in
        s3://*) s3 "$endpoint/$bucket/$(encode "$root$1")" ;;
        *) cat "$source/$1" ;;
    esac
}

# decompress NAME: from standard input to standard output, as the name's extension says.
decompress() {
    case $1 in
        *.gz) gzip -dc ;;
        *.bz2) bzip2 -dc ;;
        *.lz4) lz4 -dc ;;
        *.xz) xz -dc ;;
        *.zst) zstd -dc ;;
        *.snappy)
            if command -v snzip > /dev/null; then snzip -dc; else
                python3 -c 'import sys, snappy; snappy.stream_decompress(sys.stdin.buffer, sys.stdout.buffer)'
            fi
            ;;
        *) cat ;;
    esac
}

# ---- A base backup -------------------------------------------------------------------------------------------------------------

# field BACKUP NAME: a field of its record.
field() { sed -n "s/^$2=//p" "$work/info.$1"; }

record() {
    content "$server/base/$1/backup.info" > "$work/info.$1" || die "there is no backup $1 of $server"
    [ "$(field "$1" status)" = DONE ] || die "backup $1 is $(field "$1" status), not DONE"
}

# The tablespaces of a backup: a line `OID PLACE` each, from [('name', 16384, '/place')].
tablespaces() {
    field "$1" tablespaces | sed "s/), (/\n/g" | sed -n "s/.*, \([0-9][0-9]*\), '\([^']*\)'.*/\1 \2/p"
}

empty() {
    mkdir -p "$1"
    [ -z "$(ls -A "$1")" ] || die "$1 is not empty"
    chmod 700 "$1"
}

# unpack KEY DIRECTORY: every program of the pipe has to succeed, and tar is read to the end.
unpack() {
    echo "${1##*/} -> $2" >&2
    rm -f "$work/failed"
    { content "$1" || : > "$work/failed"; } |
        { decompress "$1" || : > "$work/failed"; } |
        { tar -x -p -f - -C "$2" || : > "$work/failed"; cat > /dev/null; }
    [ ! -e "$work/failed" ] || die "$1 could not be unpacked; delete what is in $2 and begin anew"
}

# place OID DEFAULT: where a tablespace shall go.
place() {
    for pair in $moved; do
        case $pair in "$1="*) echo "${pair#*=}"; return ;; esac
    done
    echo "$2"
}

# files BACKUP DIRECTORY SPACES: all archives of one backup; SPACES is where tablespaces go, or empty for their own places.
files() {
    names "$server/base/$1/" > "$work/archives" || die "cannot list backup $1"
    grep -q '/data\.tar' "$work/archives" || die "backup $1 has no data.tar"
    empty "$2"
    while IFS= read -r key; do
        case ${key##*/} in data.tar* | data_[0-9]*.tar*) unpack "$key" "$2" < /dev/null ;; esac
    done < "$work/archives"
    [ -e "$2/backup_label" ] || die "backup $1 has no backup_label: PostgreSQL would start from the wrong place"
    [ -e "$2/global/pg_control" ] || die "backup $1 has no pg_control"
    mkdir -p "$2/pg_tblspc" "$2/pg_wal/archive_status"
    tablespaces "$1" > "$work/spaces"
    while read -r oid its_own; do
        to=$(place "$oid" "$its_own")
        [ -z "$3" ] || to=$3.$oid
        empty "$to"
        while IFS= read -r key; do
            case ${key##*/} in "$oid".tar* | "$oid"_[0-9]*.tar*) unpack "$key" "$to" < /dev/null ;; esac
        done < "$work/archives"
        ln -sfn "$to" "$2/pg_tblspc/$oid"
    done < "$work/spaces"
}

# An incremental backup: all that it builds on is unpacked beside DIRECTORY, and PostgreSQL makes one cluster of it.
combine() {
    program=pg_combinebackup
    [ -z "${PG_BIN:-}" ] || program=$PG_BIN/pg_combinebackup
    command -v "$program" > /dev/null || die "$1 is incremental, and there is no $program"
    aside=$2.chain
    empty "$aside"
    chain='' next=$1
    while [ -n "$next" ] && [ "$next" != None ]; do
        [ "$next" = "$1" ] || record "$next"
        files "$next" "$aside/$next" "$aside/$next"
        chain="$next $chain" next=$(field "$next" parent_backup_id)
    done
    tablespaces "$1" > "$work/spaces"
    set -- "$1" "$2" --no-manifest --output "$2"
    while read -r oid its_own; do
        set -- "$@" --tablespace-mapping "$aside/$1.$oid=$(place "$oid" "$its_own")"
    done < "$work/spaces"
    for member in $chain; do set -- "$@" "$aside/$member"; done
    shift 2
    "$program" "$@" || die "$program could not combine $chain"
    rm -rf "$aside"
}

# quoted TEXT: for a shell, within a setting of PostgreSQL's.
quoted() { printf "'%s'" "$1" | sed -e "s/%/%%/g" -e "s/'/''/g"; }

configure() {
    rm -f "$1/standby.signal" "$1/recovery.conf" "$1/postmaster.pid" "$1/postmaster.opts" "$1/tablespace_map" "$1/current_logfiles"
    # What would have the copy start on the original, or not start at all, and cannot be overridden further down.
    if [ -e "$1/postgresql.conf" ]; then
        sed -e 's/^[[:space:]]*\(data_directory\|config_file\|external_pid_file\)/#&/' -e 's/^\([[:space:]]*\)include\([[:space:]]\)/\1include_if_exists\2/' \
            "$1/postgresql.conf" > "$work/conf"
        [ -d "$1/conf.d" ] || sed -i 's/^[[:space:]]*include_dir/#&/' "$work/conf"
        cat "$work/conf" > "$1/postgresql.conf"
    fi
    {
        echo
        echo "# Written by restore.sh:"
        echo "restore_command = 'sh $(quoted "$script") wal $(quoted "$source") $(quoted "$server") %f \"%p\"'"
        echo "archive_mode = off"
        echo "recovery_target_action = promote"
        [ ! -e "$1/pg_hba.conf" ] || echo "hba_file = '$1/pg_hba.conf'"
        [ ! -e "$1/pg_ident.conf" ] || echo "ident_file = '$1/pg_ident.conf'"
    } >> "$1/postgresql.auto.conf"
    : > "$1/recovery.signal"
}

base() {
    backup=$1
    case $2 in /*) directory=$2 ;; *) directory=$(pwd)/$2 ;; esac
    shift 2
    moved=$*
    record "$backup"
    case $(field "$backup" parent_backup_id) in
        '' | None) files "$backup" "$directory" '' ;;
        *) combine "$backup" "$directory" ;;
    esac
    configure "$directory"
    sync
    echo "restored. Recovery goes to the end of the archive, unless $directory/postgresql.auto.conf gets a recovery_target_… now" >&2
}

list() {
    names "$server/base/" > "$work/all" || die "cannot list the backups of $server"
    awk -F / '$NF == "backup.info" { print $(NF - 1) }' "$work/all" | sort | while read -r id; do
        content "$server/base/$id/backup.info" > "$work/info.$id" < /dev/null
        echo "$id $(field "$id" status) ended $(field "$id" end_time)"
    done
}

# ---- WAL -------------------------------------------------------------------------------------------------------------------------

# 0: it is there. 1: it is not in the archive, which ends recovery. 255: that cannot be told, which stops it.
wal() {
    refusal=255
    case $1 in
        *.history) key=$server/wals/$1 ;;
        *) key=$server/wals/$(printf %.16s "$1")/$1 ;;
    esac
    names "$key" > "$work/found" || die "the archive cannot be read"
    for end in '' .gz .bz2 .snappy .lz4 .xz .zst .partial .partial.gz .partial.bz2 .partial.snappy .partial.lz4 .partial.xz .partial.zst; do
        grep -qxF "$key$end" "$work/found" || continue
        content "$key$end" > "$work/stored" || die "$key$end cannot be read"
        decompress "$key$end" < "$work/stored" > "$2.part" || die "$key$end cannot be decompressed"
        mv "$2.part" "$2"
        exit 0
    done
    exit 1
}

[ $# -ge 3 ] || usage
verb=$1 source=${2%/} server=$3
shift 3
script=$(cd "$(dirname "$0")" && pwd)/${0##*/}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
case $source in
    s3://*)
        rest=${source#s3://}
        bucket=${rest%%/*} root=${rest#"${rest%%/*}"}
        root=${root#/}
        [ -z "$root" ] || root=$root/
        region=${AWS_REGION:-${AWS_DEFAULT_REGION:-us-east-1}}
        endpoint=${AWS_ENDPOINT_URL:-https://s3.$region.amazonaws.com}
        endpoint=${endpoint%/}
        ;;
    *://*) die "$source: only directories and s3:// are read; copy it into a directory first" ;;
    /*) ;;
    *) source=$(cd "$source" && pwd) ;;
esac
case $verb in
    list) list ;;
    base) [ $# -ge 2 ] || usage; base "$@" ;;
    wal) [ $# -eq 2 ] || usage; wal "$@" ;;
    *) usage ;;
esac
