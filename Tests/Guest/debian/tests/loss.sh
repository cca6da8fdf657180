# With a tiny buffer events are lost: each is counted, one line reports them, and no command is assembled from fragments.
. ./guest.inc
. ./nvmet.inc
target_up loop
host_up loop
# Programs that probe a new disk have finished when it can be opened.
dd if=/dev/nvme0n1 of=/dev/null count=1 iflag=direct 2>/dev/null
# On one CPU the host uses one queue; only that queue is recorded, with three events per command.
$nvmepf record --kernel --events nvmet -o /tmp/q.nvpt -- \
  taskset 1 dd if=/dev/nvme0n1 of=/dev/null count=1 iflag=direct 2>/dev/null
queue=$($nvmepf dump --event request /tmp/q.nvpt | field qid | grep -v '^0$' | sort -u)
$nvmepf record --kernel --events nvmet --qid "$queue" --kernel-buffer 4k -o /tmp/t.nvpt -- taskset 1 \
  fio --name=t --filename=/dev/nvme0n1 --rw=randread --bs=4k --ioengine=libaio --iodepth=32 --direct=1 --number_ios=20000 \
  --size=256M --output=/tmp/fio.out 2>/tmp/said
expect "status of the recording" $? 0
cat /tmp/said
recorded=$($nvmepf dump /tmp/t.nvpt | grep -cE ' (request|execute-begin|execute-end) ')
lost=$($nvmepf dump --event gap /tmp/t.nvpt | field events | awk '{ s += $1 } END { printf "%d", s }')
skipped=$(not_run /tmp/t.nvpt)
holds "some events found no room" test $((lost - skipped)) -gt 0
# Events that were not run may belong to another queue.
holds "$recorded recorded and $lost lost events, $skipped of them not run, are all" \
  test $((recorded + lost)) -ge 60000 -a $((recorded + lost - skipped)) -le 60000
expect "lines that report the number" "$(tr -d , </tmp/said | grep -c " $lost LOST: use a larger --kernel-buffer")" 1
expect "lines of the recording" "$(wc -l </tmp/said)" 2
$nvmepf report --json /tmp/t.nvpt >/tmp/report
expect "lost events in the report" "$(number lost /tmp/report)" "$lost"
commands=$(number commands /tmp/report)
holds "the report has fewer commands than fio submitted ($commands)" test "$commands" -lt 20000
holds "the report mentions lost events" sh -c "$nvmepf report /tmp/t.nvpt | grep -q 'events were lost'"
host_down
finish
