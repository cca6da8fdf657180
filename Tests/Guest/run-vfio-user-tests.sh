#!/bin/bash
# run-vfio-user-tests.sh [SUITE...] - virtual machines attach the controller that nvmepf serves: QEMU's vfio-user-pci, firmware, and
# the nvme driver of Debian's kernels 6.12 and 7.x. Each run is recorded and replayed. Needs no privilege.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$guest/runner.sh"
build_nvmepf
nvmepf=$work/nvmepf
# The serving thread spins, and so do the guest's processors.
at_once=1

# serve [OPTION...] - start a recording server with a null namespace 1 and a file as namespace 2.
serve() {
  [ $# -gt 0 ] || set -- --backend null:1GiB
  rm -f "$folder/socket" "$folder/socket.control"
  truncate --size 64M "$folder/image"
  "$nvmepf" serve --socket "$folder/socket" "$@" --record "$folder/t.nvpt" 2>"$folder/serve.log" &
  server=$!
  until [ -S "$folder/socket" ] && [ -S "$folder/socket.control" ]; do kill -0 $server 2>/dev/null || return 1; done
  "$nvmepf" ns add --socket "$folder/socket" --backend "$folder/image" >/dev/null
}

# stop - end the server; no event is lost, and the replay is identical.
stop() {
  kill -INT $server
  wait $server && replays "$folder/t.nvpt"
}
replays() { "$nvmepf" info --json "$1" | grep -q '"lost" *: *0' && "$nvmepf" replay "$1"; }

# device SOCKET [MORE] - QEMU's option that attaches the controller at this socket.
device() { echo "-device {\"driver\":\"vfio-user-pci\",${2:-}\"socket\":{\"type\":\"unix\",\"path\":\"$1\"}}"; }

# boot SYSTEM SCRIPT [KERNEL-PARAMETER...] - boot a guest with the controller attached.
boot() {
  local system=$1 script=$2
  shift 2
  DEVICES="${devices:-$(device "$folder/socket")} ${also:-}" \
    "$guest/boot.sh" "$system/vmlinuz" "$system/initrd.cpio" "$folder/host" "$guest/vfio-user/$script.sh" "$@"
}

# until_there FILE - wait until the guest has created FILE.
until_there() {
  until [ -e "$1" ]; do kill -0 $guest_pid 2>/dev/null || return 1; done
}

# Run a guest under load while a namespace is added and removed.
work_in() { # SYSTEM [KERNEL-PARAMETER...]
  local system=$1
  shift
  boot "$system" attach "$@" &
  guest_pid=$!
  until_there "$folder/host/wants-namespace" && "$nvmepf" ns add --socket "$folder/socket" --backend memory:16MiB
  until_there "$folder/host/wants-none" && "$nvmepf" ns remove --socket "$folder/socket" 3
  wait $guest_pid
}

attach() { # SYSTEM
  serve && work_in "$1" && stop
}

pin() { # SYSTEM
  serve && work_in "$1" pci=nomsi && grep -q 'interrupts by INTx' "$folder/log" && stop
}

messages() { # SYSTEM
  cat >"$folder/msi.json" <<'J'
{
  "functions": [{"msix_interrupts": 0, "msi_interrupts": 4, "nvme": {"portid": 1, "subsysnqn": "n"}}],
  "ports": [{"portid": 1, "addr": {"trtype": "pci"}, "subsystems": ["n"]}],
  "subsystems": [{"nqn": "n", "namespaces": [{"nsid": 1, "device": {"path": "null:1GiB"}}]}]
}
J
  serve --config "$folder/msi.json" && work_in "$1" && grep -q 'interrupts by MSI' "$folder/log" && stop
}

two() { # SYSTEM
  local also other status=0
  serve || return 1
  rm -f "$folder/other" "$folder/other.control"
  "$nvmepf" serve --socket "$folder/other" --backend memory:16MiB 2>"$folder/other.log" &
  other=$!
  until [ -S "$folder/other.control" ]; do kill -0 $other 2>/dev/null || return 1; done
  also=$(device "$folder/other") boot "$1" two || status=$?
  kill -INT $other
  wait $other && stop && return $status
}

vanish() { # SYSTEM
  serve || return 1
  boot "$1" vanish &
  guest_pid=$!
  until_there "$folder/host/is-busy" || return 1
  pkill -KILL -f "vfio-user-pci.*$folder/socket"
  wait $guest_pid
  # The next client finds a controller.
  work_in "$1" && stop
}

# Every fault strikes a controller of its own, all in one guest.
faults() { # SYSTEM
  local name specs rest spec options status=0 number=4 place pid
  # The firmware does not look for something to boot on each of them.
  local devices="-boot strict=on"
  cp "$guest/vfio-user/faults.txt" "$folder/host/"
  head -c 4M /dev/urandom >"$folder/host/pattern"
  server=
  while IFS='|' read -r name specs rest; do
    name=${name// /}
    options=()
    for spec in $specs; do options+=(--inject "$spec"); done
    head -c 2M "$folder/host/pattern" >"$folder/$name.image"
    truncate --size 4M "$folder/$name.image"
    # They share few cores, so an idle one sleeps.
    "$nvmepf" serve --socket "$folder/$name" --backend "$folder/$name.image" --mdts 64KiB --queues 4 --idle 1 --nap 20 \
      "${options[@]}" --record "$folder/$name.nvpt" &
    server+=" $!"
    # Two functions in each slot; the test in the guest counts in the same way.
    place=$(printf %x.%d $((number / 2)) $((number % 2)))
    devices+=" $(device "$folder/$name" "\"multifunction\":true,\"addr\":\"$place\",")"
    number=$((number + 1))
    until [ -S "$folder/$name" ]; do kill -0 $! 2>/dev/null || return 1; done
  done < <(grep -v '^#' "$guest/vfio-user/faults.txt")
  # A time limit of 3 s, as faults.txt expects. Without SGLs the controller reads PRP lists.
  LIMIT=300 boot "$1" faults nvme_core.io_timeout=3 nvme_core.admin_timeout=3 nvme.sgl_threshold=0 || status=1
  kill -INT $server
  for pid in $server; do wait "$pid" || status=1; done
  for place in "$folder"/*.nvpt; do
    replays "$place" && "$nvmepf" dump --event fault "$place" | grep -q ' rule=1 ' || {
      echo "  FAILED: $(basename "$place") has the fault, and replays"
      status=1
    }
  done
  return $status
}

# run NAME SYSTEM WHAT - run one of the tests above, then end its server.
run() { begin "$3" ended "$1" "$2"; }
ended() {
  local status=0
  "$@" || status=$?
  kill -KILL ${server:-} 2>/dev/null
  wait ${server:-} 2>/dev/null
  return $status
}

[ $# -gt 0 ] || set -- trixie trixie-backports
prepared "QEMU" has_qemu || set --
for suite; do
  prepared "a guest of $suite" "$guest/debian/build.sh" "$suite" || continue
  system=$cache/$suite
  version=$(cut -d+ -f1 "$system/version")
  run attach "$system" "$version: a guest's driver reads, writes, trims and resets our controller"
  run pin "$system" "$version: the same without MSI-X, by INTx"
  run two "$system" "$version: two controllers of one machine have distinct identities and answer the driver and nvme-cli"
  run messages "$system" "$version: the same without MSI-X, by MSI"
  run faults "$system" "$version: a guest's driver meets every fault: it recovers or reports it, and never hangs"
done
[ -z "${system:-}" ] || run vanish "$system" "$version: after a guest is killed under load, the next one can use the controller"
summary
