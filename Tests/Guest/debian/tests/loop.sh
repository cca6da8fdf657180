# Over nvme-loop, every command that fio did is seen once, with its opcode, place and length, by target and host.
. ./guest.inc
. ./nvmet.inc
transport=$(basename "${TRANSPORT:-loop}")
target_up $transport
host_up $transport
# Whoever looks at a new disk has done so when it can be opened, or the count would not be fio's alone.
dd if=/dev/nvme0n1 of=/dev/null count=1 iflag=direct 2>/dev/null
$nvmepf record --kernel --events nvmet host block -o /tmp/t.nvpt -- fio --name=t --filename=/dev/nvme0n1 --rw=randrw --bsrange=4k-64k --blockalign=4k \
  --ioengine=libaio --iodepth=8 --direct=1 --number_ios=2000 --size=256M --write_lat_log=/tmp/fio --log_offset=1 --output=/tmp/fio.out ||
  { cat /tmp/fio.out; exit 1; }
fio_commands /tmp/fio_clat.1.log >/tmp/expected
request_commands /tmp/t.nvpt >/tmp/requests
$nvmepf report --json /tmp/t.nvpt >/tmp/report
# The kernel does not run a probe that an interrupt finds running: it counts that, and so do we.
skipped=$(not_run /tmp/t.nvpt)
expect "commands that fio did" "$(wc -l </tmp/expected)" 2000
same "what fio did and what the target was told" /tmp/expected /tmp/requests "$skipped"
# Of each kind one event a command, but for what is counted as not run; none more.
missing=0
for kind in request execute-end submit completion; do
  seen=$($nvmepf dump --event $kind /tmp/t.nvpt | grep -vc ' c*qid=0 ')
  holds "$seen times $kind" test "$seen" -le 2000
  missing=$((missing + 2000 - seen))
done
holds "of the 2000 each $missing are missing, $skipped were not looked at" test $missing -le "$skipped"
expect "executions that failed" "$($nvmepf dump --event execute-end /tmp/t.nvpt | grep -v ' qid=0 ' | grep -vc ' status=0x0 ')" 0
# Queue and identifier of every command.
names() { $nvmepf dump --event $1 /tmp/t.nvpt | grep -v ' qid=0 ' | sed 's/.*\( qid=[^ ]* cid=[^ ]*\).*/\1/' | sort; }
names request >/tmp/target
names submit >/tmp/host
same "queues and identifiers as target and host saw them" /tmp/target /tmp/host "$skipped"
expect "commands in the report, or partial" $(($(number commands /tmp/report) + $(number partial /tmp/report))) 2000
if [ "$skipped" = 0 ]; then
  expect "bytes in the report" "$(($(number bytes_from_host /tmp/report) + $(number bytes_to_host /tmp/report)))" \
    "$(awk '{ s += $3 * 512 } END { printf "%d", s }' /tmp/expected)"
fi
# The block layer saw each of them twice, on its way into the host's driver and on its way out of the target.
of_events 'v["event"] == "block" && v["flags"] % 2 == 0 && v["length"] { print v["sector"], v["length"] / 512 }' /tmp/t.nvpt >/tmp/block
awk '{ print $2, $3; print $2, $3 }' /tmp/expected >/tmp/twice
same "place and length of what fio did, twice, and of the block layer's requests" /tmp/twice /tmp/block "$skipped"
exact_sums /tmp/t.nvpt
$nvmepf report /tmp/t.nvpt
host_down
finish
