# With a tiny buffer events are lost: each is counted, and no command is made up of what is left.
. ./guest.inc
. ./nvmet.inc
target_up loop
host_up loop
$nvmepf record --kernel --events nvmet --kernel-buffer 4k -o /tmp/t.nvpt -- fio --name=t --filename=/dev/nvme0n1 --rw=randread --bs=4k \
  --ioengine=libaio --iodepth=32 --direct=1 --number_ios=20000 --size=256M --output=/tmp/fio.out
taken=$($nvmepf dump /tmp/t.nvpt | grep -E ' (request|execute-begin|execute-end) ' | grep -vc ' qid=0 ')
lost=$($nvmepf dump --event gap /tmp/t.nvpt | field events | awk '{ s += $1 } END { printf "%d", s }')
echo "  $taken taken, $lost lost"
holds "some were lost" test "$lost" -gt 0
# Three probes a command, and the few admin commands that may be among the lost.
holds "each is taken or counted as lost" test $((taken + lost)) -ge 60000 -a $((taken + lost)) -le 60100
commands=$($nvmepf report --json /tmp/t.nvpt | sed -n 's/.*"commands": *\([0-9]*\).*/\1/p' | head -1)
holds "fewer commands in the report than there were ($commands)" test "$commands" -lt 20000
holds "the report says that events are missing" sh -c "$nvmepf report /tmp/t.nvpt | grep -q 'missing from the trace'"
host_down
finish
