# Controller resets, queue deletion and link loss with commands in flight: nothing is made up, and the replay agrees.
. ./guest.inc
. ./vepc.inc
target_up
cat >/tmp/job <<X
. /host/guest.inc
. /host/vepc.inc
link_up
disk_up
busy() { fio --name=busy --filename=$disk --rw=randwrite --bs=4k --iodepth=32 --ioengine=libaio --direct=1 --size=32M \
  --time_based --runtime=60 --output=/dev/null & until_true working; }
working() { [ "\$(awk '{ print \$9 }' /sys/block/nvme0n1/stat)" -gt 0 ]; }
busy
for _ in 1 2 3; do
  reset_host || exit 1
  until_true working
done
killall fio
wait
# The driver's departure deletes its queues.
busy
echo $device >/sys/bus/pci/drivers/nvme/unbind
wait
echo $device >/sys/bus/pci/drivers/nvme/bind
disk_up
busy
link_down
wait
echo work done
X
holds "the host's work" recorded /tmp/t.nvpt sh /tmp/job
$nvmepf report /tmp/t.nvpt | head -20
$nvmepf replay /tmp/t.nvpt | tail -5
replayed /tmp/t.nvpt
holds "the controller was enabled five times" test "$($nvmepf dump --event register-write /tmp/t.nvpt | grep -c 'offset=0x14 value=0x460061')" -ge 5
holds "queues were deleted" sh -c "$nvmepf dump --event queue /tmp/t.nvpt | grep -q 'flags=0x2'"
expect "the link went down" "$($nvmepf dump --event link /tmp/t.nvpt | grep -c up=0)" 1
finish
