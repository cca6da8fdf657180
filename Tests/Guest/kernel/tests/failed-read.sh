# A fault of the driver: a read that fails in the backend blocks the worker for ever; the replay reports it.
. ./guest.inc
. ./vepc.inc
target_up
cat >/tmp/job <<X
set -e
. /host/guest.inc
. /host/vepc.inc
link_up
disk_up
dd if=$disk of=/dev/null bs=4k count=4 iflag=direct 2>/dev/null
refused nvme read /dev/nvme0n1 --start-block=0xfffffff --block-count=0 --data-size=512 --data=/tmp/back
# The replay assumes that a worker that has not finished after a second never will.
sleep 3
X
holds "the host's work" recorded /tmp/t.nvpt sh /tmp/job
$nvmepf replay /tmp/t.nvpt >/tmp/replay
expect "status of the replay" $? 1
cat /tmp/replay
expect "findings" "$(grep -c 'its worker never finished' /tmp/replay)" 1
holds "it is the read that failed" grep -q 'read slba 268435455 blocks 1' /tmp/replay
finish
