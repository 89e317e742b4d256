# What is asked of every configuration management: sourced by `ansible` and `puppet`.
# shellcheck shell=bash

# Every file of the configuration with its content, owner, mode and time.
state() { (cd "$target" && find . -type f -printf '%p %u %m %T@ ' -exec sha256sum {} \;); }

# converges COMMAND: that its first run writes what the example says, and its second nothing.
converges() {
  local before
  begin "the example writes a configuration that holds"
  "$1" > "$scratch/said" 2>&1 || { cat "$scratch/said"; fail "the first run failed"; }
  "$barkeep" --config "$target/barkeep.toml" validate > /dev/null
  "$barkeep" --config "$target/barkeep.toml" --format json show-config > "$scratch/shown"
  /usr/bin/python3 - "$scratch/shown" << 'PYTHON'
import json, sys
servers = json.load(open(sys.argv[1]))["configuration"]["servers"]
assert sorted(servers) == ["billing", "orders"], sorted(servers)
assert servers["orders"]["labels"] == {"team": "payments", "tier": "1"}
PYTHON
  ok
  begin "a second run changes nothing"
  before=$(state)
  "$1" > "$scratch/said" 2>&1 || { cat "$scratch/said"; fail "the second run failed"; }
  [[ $(state) == "$before" ]] || fail "a file is another one"
  ok
}
