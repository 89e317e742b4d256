# What the tests of this directory share: sourced by each of them, with bash.
# shellcheck shell=bash
set -Eeuo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=/dev/null
source "${BARKEEP_BED:-${BARKEEP_CACHE:-$HOME/.cache/barkeep}/bed.env}"

# Short: the path of a socket is limited to 107 bytes. Servers run as another user, and pass through.
scratch=$(mktemp -d /tmp/barkeep-packaging.XXXXXX)
chmod 755 "$scratch"

# A test may add to this what it has to end.
finish() { :; }
trap 'status=$?; finish; rm -rf "$scratch"; exit $status' EXIT

test_name=
begin() { test_name=$1; }
ok() { printf 'ok    %s\n' "$test_name"; }
fail() {
  printf 'FAIL  %s: %s\n' "$test_name" "$*" >&2
  exit 1
}
trap 'printf "FAIL  %s: line %s: %s\n" "$test_name" "$LINENO" "$BASH_COMMAND" >&2' ERR

# refused CODE WORDS COMMAND...: that the command ends with this code and says these words, if any.
refused() {
  local code=$1 words=$2 status=0
  shift 2
  "$@" > "$scratch/said" 2>&1 || status=$?
  [[ $status -eq $code ]] || { cat "$scratch/said" >&2; fail "$* ended with $status, not $code"; }
  [[ -z $words ]] || grep -qF "$words" "$scratch/said" || { cat "$scratch/said" >&2; fail "$* does not say: $words"; }
}

# await WHAT COMMAND...: until it succeeds.
await() {
  local what=$1 end=$((SECONDS + 60))
  shift
  until "$@"; do
    [[ $SECONDS -lt $end ]] || fail "waited for $what"
    sleep 0.1
  done
}

# moto PORT: a store that speaks S3, with the bucket `backups`. Its process is $moto.
moto() {
  S3_IGNORE_SUBDOMAIN_BUCKETNAME=true "$MOTO_SERVER" -H 127.0.0.1 -p "$1" > "$scratch/moto.log" 2>&1 &
  moto=$!
  await moto curl -s -o "$scratch/answer" "http://127.0.0.1:$1/"
  curl -s -o "$scratch/answer" -X PUT "http://127.0.0.1:$1/backups"
}

# The user that servers run as; root's own are refused by PostgreSQL.
as_server=(env -C /)
[[ -z $PG_USER ]] || as_server=(setpriv --reuid="$PG_USER" --regid="$PG_USER" --init-groups -- env -C /)
