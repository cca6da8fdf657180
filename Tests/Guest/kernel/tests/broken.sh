# Faults planted in a copy of the driver: the replay or the report finds each.
. ./guest.inc
. ./vepc.inc
BROKEN=1
target_up
link_up
disk_up
# The recording must see the host enable the controller.
echo $device >/sys/bus/pci/drivers/nvme/unbind

cat >/tmp/job <<X
set -e
. /host/guest.inc
. /host/vepc.inc
parameters=/sys/module/nvmet_pci_epf/parameters
# plant FAULT BLOCK
plant() {
  echo "\$2" >\$parameters/slba
  printf "\$1" >\$parameters/fault
}
# struck - whether the planted fault has occurred.
struck() { [ -z "\$(cat \$parameters/fault)" ]; }
# read_at BLOCK - read eight blocks, always through the same queue.
read_at() { taskset 1 dd if=$disk of=/dev/null bs=4096 skip="\$((\$1 / 8))" count=1 iflag=direct 2>/dev/null; }
echo $device >/sys/bus/pci/drivers/nvme/bind
disk_up
read_at 0
# These commands complete.
block=8000
for fault in double short garbage; do
  plant \$fault \$block
  read_at \$block
  until_true struck
  block=\$((block + 1000))
done
# The interrupt of the next command announces this one.
plant silent 11000
read_at 11000 &
until_true struck
read_at 0
wait
# These complete only after a reset.
block=12000
for fault in dropped entry; do
  plant \$fault \$block
  read_at \$block &
  until_true struck
  reset_host
  wait
  block=\$((block + 1000))
done
plant fetch 0
read_at 0
until_true struck
# The last one: after it the host gives up.
plant csts 0
echo 1 >/sys/class/nvme/nvme0/reset_controller || true
until_true struck
X
holds "the host's work" recorded /tmp/b.nvpt sh /tmp/job
$nvmepf replay --json /tmp/b.nvpt >/tmp/replay
expect "status of the replay" $? 1
$nvmepf replay /tmp/b.nvpt
$nvmepf report /tmp/b.nvpt | tee /tmp/report

# of_block BLOCK - the replay's findings about the command at this block, one per line.
of_block() { tr '{' '\n' </tmp/replay | grep "read slba $1 "; }
# found BLOCK PATTERN
found() { of_block "$1" | grep -q "$2"; }
holds "double: the command was completed twice" found 8000 'completed it 2 times'
holds "short: a segment is shorter than the command" found 9000 'moved 3584 of the 4096 bytes'
holds "garbage: a reserved dword of the completion is not 0" found 10000 'dw1\|[Dd]word 1\|reserved'
holds "silent: no interrupt announced the completion" sh -c \
  "grep -qi 'no interrupt\|without an interrupt\|not interrupted' /tmp/replay /tmp/report"
holds "dropped: the command was abandoned" found 12000 'abandoned it without a completion'
holds "entry: the completion names another command" found 13000 'entry is for command 0x0 of queue 0'
holds "fetch: an entry was not fetched" grep -q 'failed to fetch it' /tmp/replay
holds "csts: the controller is ready though it was disabled" grep -q 'CSTS\.RDY\|still ready' /tmp/replay /tmp/report
# Correct commands have no finding.
expect "findings about block 0" "$(of_block 0 | grep -v known)" ""
[ -z "${KEEP:-}" ] || cp /tmp/b.nvpt /host/
finish
