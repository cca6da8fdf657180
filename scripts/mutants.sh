#!/bin/bash
# mutants.sh [SEEDS] - plants faults in the engine, one at a time, and checks that the simulation finds each within SEEDS seeds
# (default: 200). Exit status 1 if a fault is not found, traps or hangs; 2 if the simulation fails without it or cannot run.
#
# mutants.sh --replay - replays recordings of the right engine (the golden traces and simulated ones) with each fault planted, and
# prints in how many of them the replay finds it; and of the last, what part `minimize` keeps and what `replay --bisect` names: the
# event after which the state differs. The simulated recordings have a hash of the state after every pass, so the pass is exact there.
# Exit status 1 if no replay finds a fault, or one traps or hangs; 2 if a recording does not replay without a fault.
#
# MUTANTS_BUILD=debug builds faster, and runs slower; there, assertions trap before the replay finds some faults.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
replays=
[ "${1:-}" != --replay ] || replays=1
seeds=${1:-200}
build=.build-mutants
configuration=${MUTANTS_BUILD:-release}

swift build -c "$configuration" --scratch-path "$build" --product nvmepf -Xswiftc -DMUTANTS 2>&1 | tail -1
export SWIFT_BACKTRACE=enable=no
nvmepf=$build/$configuration/nvmepf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

missed=0
row() { printf '%-28s %s\n' "$mutant" "$1"; }
miss() { row "$1"; missed=1; }
mutants=$(sed -n 's/^  case [a-zA-Z]* = "\(.*\)"$/\1/p' Sources/Endpoint/Mutant.swift)

# The traces of our endpoint that replay finds identical.
replay_mutants() {
  local traces=() trace status found last
  for seed in $(seq 1 12); do
    "$nvmepf" simulate --seed "$seed" --commands 2000 --state-hash-every 1 -o "$work/seed-$seed.nvpt" >/dev/null
  done
  for trace in traces/*.nvpt "$work"/*.nvpt; do
    [ "$(basename "$trace")" != nvmet-pci-epf.nvpt ] || continue
    "$nvmepf" replay "$trace" >/dev/null || {
      echo "mutants.sh: $trace does not replay without a mutant: fix that first" >&2
      exit 2
    }
    traces+=("$trace")
  done
  printf '%-28s %s\n' mutant "found in of ${#traces[@]} recordings; kept by minimize, and named by --bisect, in the last"
  for mutant in $mutants; do
    found=0 last=
    export NVMEPF_MUTANT=$mutant
    for trace in "${traces[@]}"; do
      status=0
      timeout --kill-after=5 60 "$nvmepf" replay "$trace" >"$work/out" 2>&1 || status=$?
      case $status in
        0) ;;
        1)
          found=$((found + 1))
          last=$trace
          ;;
        *) miss "status $status in $(basename "$trace"): $(grep -am1 Fatal "$work/out" | cut -c1-90 || true)" ;;
      esac
    done
    if [ -n "$last" ]; then
      row "$(printf '%2d  %5s  %s: %s' $found "$(kept "$last")" "$(basename "$last" .nvpt)" "$(bisected "$last")")"
    else
      miss " 0  NOT FOUND"
    fi
  done
  unset NVMEPF_MUTANT
}

# kept TRACE - the part of its events that minimize keeps, in per cent.
kept() {
  timeout --kill-after=5 120 "$nvmepf" minimize "$1" --expect diverged -o "$work/small" 2>&1 |
    sed -n 's/.* commands, \([0-9,]*\) of \([0-9,]*\) events.*/\1 \2/p' | tr -d , | awk '{ printf "%.1f%%", 100 * $1 / $2 }'
  rm -f "$work/small"
}

bisected() { timeout --kill-after=5 120 "$nvmepf" replay --bisect "$1" 2>&1 | sed -n 's/^bisected: //p'; }

if [ -n "$replays" ]; then
  replay_mutants
  exit $missed
fi

"$nvmepf" simulate --seed 1 --seeds "$seeds" --commands 2000 >/dev/null || {
  echo "mutants.sh: the simulation fails without a mutant: fix that first" >&2
  exit 2
}
printf '%-28s %s\n' mutant 'found'
for mutant in $mutants; do
  status=0
  TMPDIR=$work timeout --kill-after=5 300 env NVMEPF_MUTANT="$mutant" "$nvmepf" simulate --seed 1 --seeds "$seeds" --commands 2000 \
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
