# With a tiny buffer events are lost: each is counted, one line reports them, and no command is assembled from fragments.
. ./guest.inc
. ./nvmet.inc
target_up loop
host_up loop
# Programs that probe a new disk have finished when it can be opened.
dd if=/dev/nvme0n1 of=/dev/null count=1 iflag=direct 2>/dev/null
# On one CPU the host uses one queue, and of the others nothing is looked at: three probes a command, and nothing else.
$nvmepf record --kernel --events nvmet -o /tmp/q.nvpt -- \
  taskset 1 dd if=/dev/nvme0n1 of=/dev/null count=1 iflag=direct 2>/dev/null
queue=$($nvmepf dump --event request /tmp/q.nvpt | field qid | grep -v '^0$' | sort -u)
$nvmepf record --kernel --events nvmet --qid "$queue" --kernel-buffer 4k -o /tmp/t.nvpt -- taskset 1 \
  fio --name=t --filename=/dev/nvme0n1 --rw=randread --bs=4k --ioengine=libaio --iodepth=32 --direct=1 --number_ios=20000 \
  --size=256M --output=/tmp/fio.out 2>/tmp/said
expect "status of the recording" $? 0
cat /tmp/said
taken=$($nvmepf dump /tmp/t.nvpt | grep -cE ' (request|execute-begin|execute-end) ')
lost=$($nvmepf dump --event gap /tmp/t.nvpt | field events | awk '{ s += $1 } END { printf "%d", s }')
skipped=$(not_run /tmp/t.nvpt)
holds "some found no room" test $((lost - skipped)) -gt 0
# Those that the kernel did not run may have been of another queue.
holds "$taken taken and $lost lost, $skipped of them not run, are all" \
  test $((taken + lost)) -ge 60000 -a $((taken + lost - skipped)) -le 60000
expect "lines that say how many" "$(tr -d , </tmp/said | grep -c " $lost LOST: use a larger --kernel-buffer")" 1
expect "lines that the recording says" "$(wc -l </tmp/said)" 2
$nvmepf report --json /tmp/t.nvpt >/tmp/report
expect "lost events in the report" "$(number lost /tmp/report)" "$lost"
commands=$(number commands /tmp/report)
holds "fewer commands in the report than there were ($commands)" test "$commands" -lt 20000
holds "the report says that events were lost" sh -c "$nvmepf report /tmp/t.nvpt | grep -q 'events were lost'"
host_down
finish
