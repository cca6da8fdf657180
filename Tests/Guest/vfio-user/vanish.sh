# A guest that disappears while its commands are in flight.
. /host/guest.inc
modprobe nvme
until_true test -e /dev/nvme0n1
fio --name=job --filename=/dev/nvme0n1 --ioengine=io_uring --direct=1 --rw=randrw --bs=4k --iodepth=32 --time_based \
  --runtime=100 >/dev/null &
inflight() { [ "$(awk '{ print $1 + $2 }' /sys/block/nvme0n1/inflight)" -gt 0 ]; }
until_true inflight
touch /host/is-busy
wait
