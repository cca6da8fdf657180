# Separate traces of a host and a target merge into one, with the clocks within the reported bound.
. ./guest.inc
. ./vepc.inc
target_up
link_up
disk_up

# One guest plays two machines, with a recording of each side. Each counts nanoseconds from its own beginning; merge must find
# the difference, which the headers contain, without reading it there.
cat >/tmp/work <<X
fio --name=m --filename=$disk --rw=randread --bs=4k --iodepth=4 --ioengine=libaio --direct=1 --number_ios=400 --size=32M --output=/dev/null
X
$nvmepf record --kernel --events nvmet endpoint window work -o /tmp/target.nvpt -- \
  $nvmepf record --kernel --events host -o /tmp/host.nvpt -- sh /tmp/work 2>/tmp/said
expect "status of both recordings" $? 0
$nvmepf merge --json /tmp/host.nvpt /tmp/target.nvpt -o /tmp/both.nvpt >/tmp/merge
expect "status of merge" $? 0
cat /tmp/merge
holds "it is JSON" is_json /tmp/merge
holds "it found the commands" test "$(number commands /tmp/merge)" -ge 390
# zero TRACE - the beginning of a recording in CLOCK_MONOTONIC, from its header (docs/trace-format.md).
zero() { od -A n -t u8 -j 32 -N 8 "$1"; }
apart=$(awk -v host="$(zero /tmp/host.nvpt)" -v target="$(zero /tmp/target.nvpt)" 'BEGIN { printf "%.0f", host - target }')
holds "they began at different times" test "$apart" -gt 100000000
# The bound holds between the first command and the last.
between=$($nvmepf dump --json --event submit /tmp/host.nvpt | sed 's/.*"time_ns":\([0-9]*\).*/\1/' | sed -n '1p;$p' | tr '\n' ' ')
holds "the clocks differ by $apart ns, and merge is within its bound at $between" awk -v apart="$apart" -v between="$between" -v merge="$(cat /tmp/merge)" '
  function value(name) { match(merge, "\"" name "\":[-0-9.e+]*"); return substr(merge, RSTART + length(name) + 3, RLENGTH - length(name) - 3) + 0 }
  BEGIN {
    bound = value("bound_ns")
    if (bound <= 0 || bound >= 50000000 || split(between, times, " ") != 2) exit 1
    for (i in times) {
      off = value("offset_ns") + value("drift") * times[i] - apart
      if ((off < 0 ? -off : off) > bound) exit 1
    }
  }'
$nvmepf merge /tmp/host.nvpt /tmp/target.nvpt -o /tmp/both.nvpt
$nvmepf report --json /tmp/both.nvpt >/tmp/report
expect "complete and partial commands" "$(($(number commands /tmp/report) + $(number partial /tmp/report)))" 400
holds "nearly all are complete" test "$(number commands /tmp/report)" -ge 390
# From the host's submission and doorbell to its completion.
for stage in detect fetch dispatch execute complete reap; do
  holds "they have $stage" grep -q "\"stage\": \"$stage\", \"mean_ns\": [1-9]" /tmp/report
done
exact_sums /tmp/both.nvpt
$nvmepf report --controller 1 /tmp/both.nvpt | head -n 3
$nvmepf report --controller 9 /tmp/both.nvpt >/tmp/said 2>&1
expect "status of a report on a missing controller" $? 2
expect "lines of the error" "$(grep -c 'no controller 9' /tmp/said)" 1

# As docs/rock5b.md explains: a reset makes a recording that began too late replayable.
echo "set -e; . /host/guest.inc; . /host/vepc.inc; reset_host; dd if=$disk of=/dev/null bs=4k count=40 iflag=direct" >/tmp/job
$nvmepf record --kernel --events nvmet endpoint -o /tmp/late.nvpt -- sh /tmp/job 2>/tmp/said
holds "a recording from a reset on is replayed without a difference" replay /tmp/late.nvpt
[ -z "${KEEP:-}" ] || cp /tmp/*.nvpt /host/
finish
