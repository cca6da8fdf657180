#!/bin/bash
# mutants.sh [SEEDS] - plant faults in the engine, one at a time, and see whether the simulation finds each within as many
# seeds (200). Exit status 1 if one is not found.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seeds=${1:-200}
build=.build-mutants

swift build -c release --scratch-path "$build" --product nvmepf -Xswiftc -DMUTANTS 2>&1 | tail -1
nvmepf=$build/release/nvmepf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

missed=0
"$nvmepf" simulate --seed 1 --seeds "$seeds" --commands 2000 >/dev/null || {
  echo "mutants.sh: a seed fails without a mutant; mend that first" >&2
  exit 2
}
printf '%-28s %s\n' mutant 'found'
for mutant in $(sed -n 's/^  case [a-zA-Z]* = "\(.*\)"$/\1/p' Sources/Endpoint/Mutant.swift); do
  status=0
  TMPDIR=$work "$nvmepf" simulate --mutant "$mutant" --seed 1 --seeds "$seeds" --commands 2000 >"$work/out" 2>&1 || status=$?
  case $status in
    0) printf '%-28s NOT FOUND in %s seeds\n' "$mutant" "$seeds"; missed=1 ;;
    1) printf '%-28s %s\n' "$mutant" "$(sed -n 's/^nvmepf: //p' "$work/out" | head -1 | cut -c1-110)" ;;
    *) printf '%-28s the engine stopped (status %s): %s\n' "$mutant" "$status" "$(grep -m1 Fatal "$work/out" | cut -c1-90)" ;;
  esac
  rm -f "$work"/*.nvpt
done
exit $missed
