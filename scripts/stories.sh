#!/bin/bash
# stories.sh DIR [NAME...]
#
# Record into DIR one small trace for each of ten troubles between a host and a device, or for those named, for those who
# try the debugger on them: NAME.nvpt. Every recording replays identically. NVMEPF names the tool (default: the release
# build).
set -euo pipefail
nvmepf=${NVMEPF:-$(dirname "${BASH_SOURCE[0]}")/../.build/release/nvmepf}
[ $# -ge 1 ] || { echo "usage: $0 DIR [NAME...]" >&2; exit 2; }
folder=$1
shift
mkdir -p "$folder"

names=(lost-completion double-completion wrong-phase never-drained stuck-doorbell lost-interrupt slow-backend
  reset-in-flight prp-off-by-one reused-cid)

# Most of these workloads fail: the status is not the script's.
record() { "$nvmepf" record -o "$folder/$name.nvpt" --inject-seed 1 --timeout 0.3 "$@" || [ $? = 1 ]; }
misbehave() { "$nvmepf" record -o "$folder/$name.nvpt" --timeout 0.3 "$@" || [ $? = 1 ]; }

story() {
  case $1 in
  # The controller forgets one completion; the host waits for it until its time limit.
  lost-completion) record --rw randread --iodepth 8 --number 2000 --inject drop-completion,after=1500,once ;;
  # One completion is written twice; the second may complete a later command with the same identifier.
  double-completion) record --rw randread --iodepth 8 --number 2000 --inject duplicate-completion,after=1500,once ;;
  # Once the queue has wrapped, an entry keeps the phase tag of the round before, so the host never sees it.
  wrong-phase) record --rw randread --iodepth 8 --number 2000 --inject wrong-phase,after-wrap,after=896,once ;;
  # The host consumes completions and never writes the head doorbell, until the queue is full.
  never-drained) misbehave --rw randread --iodepth 8 --number 2000 --misbehave never-drain ;;
  # The controller no longer sees writes of the tail doorbell.
  stuck-doorbell) record --rw randread --iodepth 8 --number 2000 --inject stuck-doorbell,after=150,once ;;
  # An interrupt that announces all completions is never raised; the host finds them when it looks by itself. The copies
  # take longer than the host polls before it sleeps.
  lost-interrupt) record --backend memory:64MiB --fetch batch --rw randread --bs 64k --iodepth 8 --number 800 \
    --interrupts --inject drop-interrupt,coalesced,after=40,once ;;
  # One request takes 50 ms in the backend.
  slow-backend) record --rw randread --iodepth 8 --number 2000 --inject slow-request=50ms,after=1200,once ;;
  # The host resets the controller while commands are in flight, and continues.
  reset-in-flight) misbehave --backend null:1GiB,constant:200us --rw randread --iodepth 8 --number 2000 \
    --misbehave reset-in-flight ;;
  # The controller reads a PRP list one entry too far.
  prp-off-by-one) record --backend memory:64MiB --rw randread --bs 64k --iodepth 4 --number 1000 \
    --inject prp-off-by-one,after=700,once ;;
  # The host gives a command the identifier of one in flight.
  reused-cid) misbehave --backend null:1GiB,constant:200us --rw randread --iodepth 8 --number 2000 \
    --misbehave reuse-cid ;;
  *)
    echo "no story $1; there are ${names[*]}" >&2
    exit 2
    ;;
  esac
}

for name in "${@:-${names[@]}}"; do
  echo "$name"
  story "$name"
  "$nvmepf" replay "$folder/$name.nvpt"
done
