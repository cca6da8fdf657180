#!/bin/bash
# run-program-tests.sh [TEST...] - tests the static nvmepf of another architecture (ARCH) as a program: under QEMU's user-mode
# emulation with the libraries of a Debian guest, or directly on a machine of that architecture. Needs no privilege. Says what
# such an emulation cannot run. Environment: NVMEPF_STATIC and MEMORY_ORDER, programs that are built already.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$guest/runner.sh"
top=$(cd "$guest/../.." && pwd)
build_nvmepf
if [ -n "${MEMORY_ORDER:-}" ]; then cp "$MEMORY_ORDER" "$work/memory-order"; else build_program memory-order; fi
emulator=() emulated=
if [ "$arch" != "$native" ]; then
  emulated=yes
  prepared "Debian's guest" "$guest/debian/build.sh" trixie || { summary; exit; }
  emulator=("$(emulator)" -cpu max -L "$cache/trixie$of_arch/root")
fi
. "$guest/checks.inc"
program() { "${emulator[@]}" "$work/$1" "${@:2}"; }
nvmepf="program nvmepf"

# Each begins in its own folder.
starts() {
  # No other architecture's program passes for it.
  expect "the program's machine" "$(od -An -tx1 -j 18 -N 1 "$work/nvmepf" | tr -d ' ')" "$([ "$arch" = arm64 ] && echo b7 || echo 3e)"
  holds "it says its version" $nvmepf --version
}

golden() {
  local trace
  for trace in "$top"/traces/*.nvpt; do holds "$(basename "$trace") replays" $nvmepf replay "$trace"; done
}

simulated() {
  holds "hosts, backends and faults by seeds" $nvmepf simulate --seed 1 --seeds 20 --commands 500
  $nvmepf simulate --seed 7 --commands 2000 -o here.nvpt
  $nvmepf dump here.nvpt >here
  local other=$top/.build/release/nvmepf
  [ "$("$other" --version 2>/dev/null)" = "$($nvmepf --version)" ] ||
    { echo "NOT RUN: $other is not of this version, to compare a simulation with"; return; }
  "$other" simulate --seed 7 --commands 2000 -o there.nvpt
  "$other" dump there.nvpt >there
  holds "the same seed gives the same events as on $native" cmp here there
}

recorded() {
  $nvmepf record -o t.nvpt --rw randrw --bs 4k --iodepth 8 --number 2000
  expect "status of the recording" $? 0
  expect "submissions" "$($nvmepf dump --event submit t.nvpt | grep -vc ' qid=0 ')" 2000
  expect "lost events" "$($nvmepf info --json t.nvpt >info && number lost info)" 0
  holds "it replays" $nvmepf replay t.nvpt
  $nvmepf report --json t.nvpt >report
  # The emulated counter counts microseconds: equal stamps of two threads leave open which event came first.
  expect "commands in the report, or partial" $(($(number commands report) + $(number partial report))) 2000
  holds "it says so in words" $nvmepf report t.nvpt
}

repaired() {
  # Not through a function, whose shell would be killed instead.
  "${emulator[@]}" "$work/nvmepf" record -o killed.nvpt --rw randread --bs 4k --runtime 600 &
  # Some chunks are in the file, and events in the rings.
  until_true sh -c 'test $(stat -c %s killed.nvpt) -gt 20000'
  kill -9 $!
  wait $! 2>/dev/null
  holds "what a killed recorder left is repaired" $nvmepf repair killed.nvpt
  holds "it replays" $nvmepf replay killed.nvpt
}

ordered() {
  holds "two threads see each other's values in order" program memory-order 300000 ${emulated:+--counters-differ}
}

# The pairs of HACKING.md, Memory order, as the compiler left them: emulation on x86-64 would not miss them.
barriers() {
  local linked=$top/.build-static/release/nvmepf disassemble=objdump function instruction
  if [ -n "$emulated" ]; then
    linked=$top/.build-static-$arch/release/nvmepf disassemble="$top/scripts/cross.sh llvm-objdump"
  fi
  [ "$arch" = arm64 ] && [ -x "$linked" ] || { echo "NOT RUN: there is no $linked to disassemble"; return; }
  $disassemble -d --no-show-raw-insn "$linked" >code
  while read -r function instruction; do
    holds "$function has $instruction" awk -v f="$function" -v i="$instruction" '
      /^[0-9a-f]+ <.*>:$/ { inside = $0 ~ f }
      inside && $2 == i { found = 1; exit }
      END { exit !found }' code
  done <<EOF
RingProducer.*append stlr
RingConsumer.*available ldar
RingConsumer.*free stlr
Controller.*poll ldar
LivePort.*show stlr
QueuePair.*ring stlr
QueuePair.*reap ldar
Controller.*poll isb
QueuePair.*reap isb
EOF
}

# checked FUNCTION - run it in its folder; fail if a check has.
checked() {
  cd "$folder/host" || return
  "$1"
  [ "$failures" = 0 ]
}
[ $# -gt 0 ] || set -- starts golden simulated recorded repaired ordered barriers
for test; do begin "$arch program: $test" checked $test; done
wait
if [ -n "$emulated" ]; then
  echo "NOT RUN: recorded commands, files and devices: user-mode emulation has neither seccomp's notifications nor io_uring;" \
    "the guests' tests run them"
  echo "NOT RUN: memory order: this machine's processor reorders less than arm64 may; run memory-order on a board"
fi
summary
