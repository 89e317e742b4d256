# Runs a page as one who reads it would: every block of it in order, in the clean root. Sourced by `clean-root`.
# shellcheck shell=bash
#
# A block of `console` has commands after `# ` (root) and `$ ` (the user postgres). What stands below one is what it prints: all of
# it, but for what differs from run to run, such as times; `…` stands for anything, alone for any number of lines. Where nothing
# stands, anything may be printed. A block that is `printed` is what the last command has printed. One whose first line is `# /a/path`
# or `-- /a/path` is that file; another one of that kind is only to look at.

# follow PAGE: prints the transcript, and how long each section of the page took.
follow() {
  local line kind='' command='' user='' wanted='' section='' times=() whole began took
  whole=$(now) began=$whole
  while IFS= read -r line; do
    case $kind:$line in
      :'## '*)
        section_ends
        section=${line#\#\# }
        ;;
      :'```console') kind=console ;;
      :'```'*' printed') kind=printed ;;
      :'```toml' | :'```conf' | :'```ini' | :'```sql') kind='file' ;;
      :'```'*) kind=other ;;
      console:'```')
        run_shown
        kind=''
        ;;
      printed:'```')
        compare
        kind=''
        ;;
      *:'```') kind='' ;;
      console:'# '* | console:'$ '*)
        run_shown
        user=root command=${line:2}
        [[ $line != '$ '* ]] || user=postgres
        ;;
      console:*)
        if [[ $command == *\\ ]]; then command+=$'\n'$line; else wanted+=$line$'\n'; fi
        ;;
      file:'# /'* | file:'-- /'*)
        kind=written path=$root${line#* }
        mkdir -p "${path%/*}"
        : > "$path"
        ;;
      printed:*) wanted+=$line$'\n' ;;
      written:*) printf '%s\n' "$line" >> "$path" ;;
    esac
  done < "$1"
  section_ends
  took=$(($(now) - whole))
  printf '    %s\n' "${times[@]}" "$(seconds "$took") s  in all: $((took / 600)).$((took / 60 % 10)) minutes"
}

# Instants and spans in tenths of a second.
now() { echo $((${EPOCHREALTIME//[.,]/} / 100000)); }
seconds() { printf '%4d.%d' $(($1 / 10)) $(($1 % 10)); }

section_ends() {
  [[ -z $section ]] || times+=("$(seconds $(($(now) - began))) s  $section")
  began=$(now)
}

# The command that was read, if any, is run, and what it prints compared with what stands below it.
run_shown() {
  local status=0 as=(bash -ec "cd /packages; $command") sign='#' began
  [[ -n $command ]] || return 0
  [[ $user == root ]] || as=(sudo -u postgres bash -ec "cd ~; $command") sign="\$"
  began=$(now)
  inside "${as[@]}" > "$scratch/shown" 2>&1 || status=$?
  printf '    %s %-100s %s s\n' "$sign" "$command" "$(seconds $(($(now) - began)))"
  sed 's/^/    /' "$scratch/shown"
  case $command:$status in
    # What is wrong with the server is what the page is about.
    *:0 | 'barkeep status'*:[68] | 'barkeep list'*:8) ;;
    *) fail "$command ended with $status" ;;
  esac
  compare
  command=''
}

# What was printed with what stands in the page, if anything does.
compare() {
  local pattern
  pattern=$(same <<< "${wanted%$'\n'}" | sed 's/[][\\*?]/\\&/g')
  pattern=${pattern//$'…\n'/…}
  # shellcheck disable=SC2053 # a pattern is what it is
  [[ -z $wanted || $(same < "$scratch/shown") == ${pattern//…/*} ]] || fail "this is not what is printed: $wanted"
  wanted=''
}

# What differs from run to run, and how columns are filled up, is the same everywhere.
same() {
  sed -E -e 's/\b[0-9]{8}T[0-9]{6}\b/ID/g' \
    -e 's/\b20[0-9]{2}(-[0-9]{2}){2}[ T]([0-9]{2}:){1,2}[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9:]+)?/TIME/g' \
    -e 's/\b([0-9]{2}:){1,2}[0-9]{2}\b/TIME/g' \
    -e 's/\b[0-9A-F]{24}\b/WAL/g' -e 's/\b[0-9A-F]+\/[0-9A-F]+\b/LSN/g' \
    -e 's/\b[0-9]{19}\b/SYSTEM/g' -e 's/digest [0-9a-f]{8}/digest/' -e 's/\[[0-9]+\]/[N]/' \
    -e 's/\b[0-9]+(\.[0-9]+)?( ?[KMG]iB| ?kB| ?ms| files|s|m|h)(\/s)?\b/N/g' \
    -e 's/(barkeep init.) [0-9.]+/\1 N/' -e 's/PostgreSQL 15\.[0-9]+/PostgreSQL 15/' -e 's/ +/ /g' -e 's/ $//'
}
