# Goes on in namespaces of its own, so that nothing a test mounts or starts outlives it, and its ports are nobody else's. Needs root.
# Sourced first, with the test's own arguments.
# shellcheck shell=bash

if [[ -z ${ISOLATED:-} ]]; then
  export ISOLATED=yes
  as_root=()
  [[ $(id -u) -eq 0 ]] || as_root=(sudo '--preserve-env=ISOLATED,HOME,BARKEEP_BED,BARKEEP_CACHE')
  exec "${as_root[@]}" unshare --mount --net --pid --fork --kill-child -- "$0" "$@"
fi
ip link set lo up
