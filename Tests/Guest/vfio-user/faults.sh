# Many controllers, each with a fault of faults.txt: the driver recovers or reports an error, as expected there, and never hangs.
. /host/guest.inc
# Little is forked while commands are measured against their time limit: forks are slow under emulation.
sed '/^#/d; s/ *| */|/g; s/ *$//' /host/faults.txt >/tmp/rows
# each COMMAND... - run it for each row, with its columns, and the controller's folder, in variables. Two functions a slot, from 2.
each() {
  local number=4 name specs data controller again words pci
  while IFS='|' read -r name specs data controller again words; do
    pci=0000:00:$(printf %02x.%d $((number / 2)) $((number % 2)))
    "$@" </dev/null
    number=$((number + 1))
  done </tmp/rows
}
# device - the name of the row's block device.
device() {
  local place
  for place in /sys/bus/pci/devices/"$pci"/nvme/nvme*/nvme*n1; do echo "/dev/${place##*/}"; done
}

# read_right DEVICE MIB SIZE - whether a MiB, read in pieces of this size, holds what it should.
read_right() {
  dd if="$1" of="/tmp/$name.read" bs="$3" skip="$(($2 * 1048576))" count=1048576 iflag=skip_bytes,count_bytes,direct || return 2
  # At the end of a device without blocks there is no error.
  [ -s "/tmp/$name.read" ] || return 2
  cmp "/tmp/pattern.$2" "/tmp/$name.read"
}
use() { # DEVICE
  read_right "$1" 1 64k && { dd if=/tmp/pattern.2 of="$1" bs=1M seek=2 oflag=direct || return 2; } && read_right "$1" 2 1M
}
# outcome STATUS - the word for it.
outcome() { case $1 in 0) echo right ;; 1) echo wrong ;; *) echo error ;; esac; }
# work - use a controller, then once more.
work() {
  local device place
  device=$(device)
  use "$device"
  outcome $? >"/tmp/$name.data"
  grep -q right "/tmp/$name.data" || for place in /sys/bus/pci/devices/"$pci"/nvme/nvme*/reset_controller; do echo 1 >"$place"; done
  read_right "$device" 1 64k
  outcome $? >"/tmp/$name.ending"
  mv "/tmp/$name.ending" "/tmp/$name.again"
}
begin() { [ "$data" = none ] || work >"/tmp/$name.said" 2>&1 & }
absent() { [ "$data" = none ] || [ -b "$(device)" ] || echo "$name"; }
working() { [ "$data" = none ] || [ -e "/tmp/$name.again" ] || echo "$name"; }
# none_is WHAT SECONDS - wait until this is true of no row.
none_is() {
  local left=$2
  while [ "$left" -gt 0 ] && each "$1" | grep -q .; do
    sleep 1
    left=$((left - 1))
  done
  expect "controllers that are $1" "$(each "$1" | tr '\n' ' ')" ""
}

# one_of WHAT ACTUAL EXPECTED/EXPECTED...
one_of() { case "/$3/" in *"/$2/"*) expect "$1" "$2" "$2" ;; *) expect "$1" "$2" "$3" ;; esac; }
of() { cat "/tmp/$name.$1" 2>/dev/null || echo none; }
# check - what became of a controller, and what the kernel says of it.
check() {
  local known
  one_of "$name: data" "$(of data)" "$data"
  one_of "$name: controller" "$(cat /sys/bus/pci/devices/"$pci"/nvme/nvme*/state 2>/dev/null || echo none)" "$controller"
  one_of "$name: again" "$(of again)" "$again"
  known=$(sed -n "s/.*nvme \(nvme[0-9]*\): pci function $pci\$/\1/p" /tmp/kernel)
  grep -E "nvme $known:|$known(c[0-9]*)?n1|nvme $pci:" /tmp/kernel >/tmp/log
  case $words in
    nothing) holds "$name: $words" refused grep -iE 'timeout|error|abort|reset|mismatch|invalid|down|fail' /tmp/log ;;
    *) holds "$name: $words" eval 'tr "\n" " " </tmp/log | grep -qE "$words"' ;;
  esac
  head -n 12 /tmp/log
}

for mib in 1 2; do dd if=/host/pattern of=/tmp/pattern.$mib bs=1M skip=$mib count=1; done 2>/dev/null
modprobe nvme
none_is absent 40
each begin
none_is working 90
dmesg >/tmp/kernel
each check
holds "the driver unloads" rmmod nvme
finish
