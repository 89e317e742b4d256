# Runs a page as one who reads it would: every block of it in order, in the clean root. Sourced by `clean-root`.
# shellcheck shell=bash
#
# A block of `console` has commands after `# ` (root) and `$ ` (the user postgres); what stands below one is what it
# prints, of which only the words count that are given: `…` stands for anything. A block whose first line is
# `# /a/path` or `-- /a/path` is that file; another one of that kind is only to look at.

follow() {
  local line kind='' command='' user='' wanted=()
  while IFS= read -r line; do
    case $kind:$line in
      :'```console') kind=console ;;
      :'```toml' | :'```conf' | :'```sql') kind=file ;;
      :'```'*) kind=other ;;
      console:'```')
        run_shown
        kind=''
        ;;
      *:'```') kind='' ;;
      console:'# '* | console:'$ '*)
        run_shown
        user=root command=${line:2}
        [[ $line != '$ '* ]] || user=postgres
        ;;
      console:*) [[ -z $line ]] || wanted+=("$line") ;;
      file:'# /'* | file:'-- /'*)
        kind=written path=$root${line#* }
        mkdir -p "${path%/*}"
        : > "$path"
        ;;
      written:*) printf '%s\n' "$line" >> "$path" ;;
    esac
  done < "$1"
}

run_shown() {
  local want pattern status=0
  [[ -n $command ]] || return 0
  if [[ $user == root ]]; then
    inside bash -ec "cd /packages; $command" > "$scratch/shown" 2>&1 || status=$?
  else
    inside sudo -u postgres bash -ec "cd ~; $command" > "$scratch/shown" 2>&1 || status=$?
  fi
  case $command:$status in
    # What is wrong with the server is what the page is about.
    *:0 | 'barkeep status'*:[68] | 'barkeep list'*:8) ;;
    *) cat "$scratch/shown"; fail "$command ended with $status" ;;
  esac
  for want in "${wanted[@]}"; do
    pattern=$(sed -e 's/[][\.*^$]/\\&/g' -e 's/ *… */.*/g' -e 's/  */ */g' <<< "$want")
    grep -q -- "$pattern" "$scratch/shown" || { cat "$scratch/shown"; fail "$command does not print: $want"; }
  done
  command='' wanted=()
}
