#!/bin/bash
# live-truth.sh [COMMANDS]
#
# Records the built-in workload with 5 µs in one stage after the other, and prints how much of it the report shows in
# that stage and in all others, by medians. After make build, on a quiet machine with two free cores.
set -euo pipefail
nvmepf=${NVMEPF:-$PWD/.build/release/nvmepf}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

record() { # NAME PATTERN [OPTION...]
  local name=$1 pattern=$2
  shift 2
  "$nvmepf" record -o "$work/$name.nvpt" --backend memory:64MiB --rw "$pattern" --bs 4k --number "$commands" "$@" \
    >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  "$nvmepf" report --json "$work/$name.nvpt" >"$work/$name.json"
}

commands=${1:-200000}
echo "load average: $(cut -d ' ' -f 1-3 /proc/loadavg)"
for stage in detect fetch dispatch map data-in execute data-out complete; do
  pattern=randread
  [ $stage != data-in ] || pattern=randwrite
  record plain "$pattern"
  record delayed "$pattern" --inject "delay=$stage:5us"
  python3 - "$stage" "$work" <<'P'
import json, sys
stage, work = sys.argv[1:]
def medians(name):
    with open(f"{work}/{name}.json") as file:
        return {s["stage"]: int(s["p50_ns"] or 0) for s in json.load(file)["stages"]}
plain, delayed = medians("plain"), medians("delayed")
change = {name: delayed[name] - plain[name] for name in plain}
others = sum(abs(ns) for name, ns in change.items() if name != stage)
print(f"{stage:10} {change[stage] / 50:6.1f} % in it, {others / 50:5.1f} % in others")
P
done
