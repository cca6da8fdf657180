# Every selection of probes, each alone.
. ./guest.inc
. ./vepc.inc
target_up
link_up
disk_up

# Forty reads by one CPU, through one queue.
cat >/tmp/reads <<X
taskset 1 dd if=$disk of=/dev/null bs=4k count=40 iflag=direct 2>/dev/null
X
# look OPTION... - record the reads; /tmp/kinds lists the kinds of events and their numbers.
look() { look_status 0 "$@"; }
# look_status STATUS OPTION... - the same; the recording ends with STATUS: 3 is one without events.
look_status() {
  status=$1
  shift
  rm -f /tmp/o.nvpt
  $nvmepf record --kernel "$@" -o /tmp/o.nvpt -- sh /tmp/reads 2>/tmp/said
  expect "status of record --kernel $*" $? "$status"
  of_events '{ n[v["event"]]++ } END { for (k in n) print k, n[k] }' /tmp/o.nvpt >/tmp/kinds
}
kinds() { awk '{ print $1 }' /tmp/kinds | grep -v '^origin$\|^probe$\|^clock$\|^gap$' | sort | tr '\n' ' '; }
count() { awk -v k="$1" '$1 == k { n = $2 } END { print n + 0 }' /tmp/kinds; }

look --events nvmet
expect "kinds of events" "$(kinds)" "execute-begin execute-end request "
expect "requests" "$(count request)" 40
queue=$($nvmepf dump --event request /tmp/o.nvpt | field qid | sort -u)
look --events host
expect "kinds of events" "$(kinds)" "completion doorbell entry interrupt queue-state submit "
expect "submissions" "$(count submit)" 40
look --events block
expect "kinds of events" "$(kinds)" "block "
# Beginning and end, at the host's disk and at the target's backend.
expect "requests of the block layer" "$(count block)" 160
look --events endpoint
holds "the stages of nvmet-pci-epf, and nothing else: $(kinds)" test "$(count fetch) $(count segment) $(count completion)" = "40 40 40" \
  -a "$(count request) $(count submit) $(count window) $(count block)" = "0 0 0 0"
look --events nvmet endpoint work
expect "how long work items waited" \
  "$(of_events 'v["event"] == "work" && v["work"] == 0 && v["queued"] > 0 { n++ } END { print n + 0 }' /tmp/o.nvpt)" 40

look --subsystem $nqn --events nvmet endpoint
expect "requests of this subsystem" "$(count request)" 40
look_status 3 --subsystem nqn.2025-01.org.example:another --events nvmet endpoint
expect "requests of another subsystem" "$(count request)" 0
cat /tmp/said
holds "a line reports the missing subsystem" grep -q another /tmp/said

look --qid "$queue"
expect "events of other queues" \
  "$(of_events '("qid" in v && v["qid"] != '"$queue"') || ("cqid" in v && v["cqid"] != '"$queue"')' /tmp/o.nvpt | wc -l)" 0
expect "commands of that queue" "$(count fetch)" 40
look_status 3 --qid $((3 - queue)) --events nvmet endpoint
expect "commands of a queue that nobody uses" "$(count fetch)" 0

finish
