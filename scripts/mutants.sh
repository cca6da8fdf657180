#!/bin/bash
# mutants.sh [SEEDS] - plants faults in the engine, one at a time, and checks that the simulation finds each within SEEDS seeds
# (default: 200). Exit status 1 if a fault is not found, traps or hangs; 2 if the simulation fails without it or cannot run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seeds=${1:-200}
build=.build-mutants

swift build -c release --scratch-path "$build" --product nvmepf -Xswiftc -DMUTANTS 2>&1 | tail -1
nvmepf=$build/release/nvmepf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

missed=0
row() { printf '%-28s %s\n' "$mutant" "$1"; }
miss() { row "$1"; missed=1; }

"$nvmepf" simulate --seed 1 --seeds "$seeds" --commands 2000 >/dev/null || {
  echo "mutants.sh: the simulation fails without a mutant: fix that first" >&2
  exit 2
}
printf '%-28s %s\n' mutant 'found'
for mutant in $(sed -n 's/^  case [a-zA-Z]* = "\(.*\)"$/\1/p' Sources/Endpoint/Mutant.swift); do
  status=0
  TMPDIR=$work timeout --kill-after=5 300 "$nvmepf" simulate --mutant "$mutant" --seed 1 --seeds "$seeds" --commands 2000 \
    >"$work/out" 2>&1 || status=$?
  case $status in
    0) miss "NOT FOUND in $seeds seeds" ;;
    1) row "$(sed -n 's/^nvmepf: //p' "$work/out" | head -1 | cut -c1-110)" ;;
    124) miss "HANGS" ;;
    *)
      # A trap ends the process before a check finds the fault. Other statuses mean that the simulation could not run.
      if ((status < 128)); then
        echo "mutants.sh: $mutant: simulate failed with status $status: $(tail -1 "$work/out")" >&2
        exit 2
      fi
      miss "TRAP (status $status): $(grep -am1 Fatal "$work/out" | cut -c1-90)"
      ;;
  esac
  rm -f "$work"/*.nvpt
done
exit $missed
