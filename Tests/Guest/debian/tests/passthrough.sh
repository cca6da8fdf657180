# Passthrough to NVMe devices: the data arrives, commands that a device lacks are replaced, metadata is refused.
# PROGRAMS=data-safety
# DEVICES=-device nvme,id=pci,serial=pci
# DEVICES=-blockdev driver=null-co,node-name=zeros,size=67108864,read-zeroes=on -device nvme-ns,bus=pci,drive=zeros,nsid=1,ms=8,pi=1
# DEVICES=-drive if=none,id=kept,driver=null-co,size=67108864,read-zeroes=on,snapshot=on -device nvme-ns,bus=pci,drive=kept,nsid=2
. ./guest.inc
. ./nvmet.inc

# nvme-loop serves a disk, and a file on tmpfs, which cannot zero a range, so that Write Zeroes is an invalid opcode.
modprobe null_blk nr_devices=0
disk=/sys/kernel/config/nullb/nullb0
mkdir $disk
echo 1 >$disk/memory_backed
echo 64 >$disk/size
echo 1 >$disk/power
truncate -s 64M /tmp/file
target_up loop
namespace_up 2 /tmp/file
host_up loop
# QEMU's NVMe device has all commands, a namespace with metadata, and one that keeps its data while QEMU runs.
modprobe nvme
for device in ng0n1 ng0n2 ng1n1 ng1n2; do until_true test -c /dev/$device; done
for device in nvme0n1 nvme0n2 nvme1n1 nvme1n2; do until_true test -b /dev/$device; done

# named CONTROLLER NSID - for example 1n2 of nvme1n2; the kernel numbers namespaces in the order of discovery.
named() {
  for name in /sys/block/nvme$1n*; do
    [ "$(cat $name/nsid)" != "$2" ] || echo "${name#*/nvme}"
  done
}
protected=$(named 1 1)

for device in /dev/ng0n1 /dev/ng0n2 /dev/ng$(named 1 2); do
  block=/dev/nvme${device#/dev/ng}
  $nvmepf record --backend $device -o /tmp/t.nvpt --rw randrw --bs 16k --iodepth 8 --number 100
  expect "status of a recording of $device" $? 0
  expect "executions that failed" "$($nvmepf dump --event execute-end /tmp/t.nvpt | grep -vc ' status=0x0 ')" 0
  $nvmepf replay /tmp/t.nvpt
  expect "status of its replay" $? 0
  $nvmepf record --backend $device -o /tmp/t.nvpt -- \
    sh -c "$nvmepf ns list --socket \$NVMEPF_SOCKET --json >/tmp/list"
  expect "bytes of $device" "$(number bytes /tmp/list)" $((64 << 20))
  expect "bytes of its blocks" "$(number block_bytes /tmp/list)" "$(blockdev --getss $block)"
  # Read with direct I/O, past the kernel's cache.
  holds "it contains the data written, zeroed and deallocated" /host/data-safety $nvmepf 1 7 $device $block
done
holds "data is in the file" test "$(du -k /tmp/file | cut -f1)" -gt 300

# turned_down WHAT DEVICE WORDS - expect an error that contains WORDS.
turned_down() {
  $nvmepf record --backend "$2" -o /tmp/t.nvpt --rw randread --number 1 2>/tmp/said
  expect "status with $1" $? 2
  holds "it gives the reason" grep -q "$3" /tmp/said
  cat /tmp/said
}
$nvmepf serve --backend /dev/nvme0n1 --socket /tmp/socket 2>/tmp/serving &
until_true test -S /tmp/socket || cat /tmp/serving
turned_down "a device whose block device is in use" /dev/ng0n1 '/dev/nvme0n1 is in use'
kill $!
wait $!
turned_down "a format with metadata" /dev/ng$protected '8 bytes of metadata'
turned_down "a block device with protection information" /dev/nvme$protected 'T10-DIF-TYPE1-CRC'
host_down
finish
