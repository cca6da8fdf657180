# A guest's nvme driver uses our controller: all sizes, trims, resets under load, namespaces added and removed.
# Namespace 1 is null, 2 a file on this machine, 3 is added while the test runs.
. /host/guest.inc
modprobe nvme
# The kernel scans in parallel: nvme0n1 may be any of them.
block_of() { for place in /sys/block/nvme0n*; do [ "$(cat "$place/nsid")" != "$1" ] || echo "/dev/${place##*/}"; done; }
has() { [ -n "$(block_of "$1")" ]; }
until_true has 1
until_true has 2
job() { # DEVICE FIO-OPTION...
  local device=$1
  shift
  fio --name=job --filename="$device" --ioengine=io_uring --direct=1 --verify_state_save=0 "$@" >/tmp/fio 2>&1 ||
    { cat /tmp/fio; return 1; }
}
holds "reads of nothing" job "$(block_of 1)" --rw=randread --bs=4k --iodepth=32 --number_ios=2000 --size=64M
holds "writes of every size are read back" job "$(block_of 2)" --rw=randwrite --bsrange=512-512k --iodepth=16 \
  --size=16M --verify=crc32c --do_verify=1
holds "trims" job "$(block_of 2)" --rw=randtrim --bs=64k --iodepth=4 --size=16M
holds "zeroes" nvme write-zeroes "$(block_of 2)" -s 0 -c 7
holds "a flush" nvme flush "$(block_of 2)"
# The driver reads the effects of every command that a program submits.
holds "the effects log" nvme effects-log /dev/nvme0 --csi=0
expect "effects that the driver calls unusual" "$(dmesg | grep -c 'unusual effects')" 0

# A reset under load: the driver retries the abandoned commands.
job "$(block_of 2)" --rw=randrw --bs=4k --iodepth=16 --size=16M --time_based --runtime=3 --verify=crc32c &
until_true test -s /tmp/fio
for _ in 1 2 3; do holds "a reset while fio runs" nvme reset /dev/nvme0; done
holds "fio finds no error" wait $!

touch /host/wants-namespace
until_true has 3
holds "an added namespace can be read" job "$(block_of 3)" --rw=read --bs=4k --size=1M
touch /host/wants-none
gone() { ! has 3; }
until_true gone
holds "SMART counts what was read" test "$(nvme smart-log /dev/nvme0 | sed -n 's/^host_read_commands[^0-9]*//p' | tr -d ,)" -gt 2000
! grep -q "IO-APIC.*nvme0q0" /proc/interrupts || echo "interrupts by INTx"
! grep -qE "MSI( |-[^X]).*nvme0q0" /proc/interrupts || echo "interrupts by MSI"
dmesg | grep -E 'nvme.*(I/O Cmd|error|timeout|fatal)'
expect "errors that the driver reported" "$(dmesg | grep -cE 'nvme.*(I/O Cmd|error|timeout|fatal)')" 0
holds "the driver unloads" rmmod nvme
finish
