# Features around a recording: doctor, a module unloaded meanwhile, the probes' cost, our engine in the same trace, bench.
. ./guest.inc
. ./vepc.inc
$nvmepf doctor --json >/tmp/doctor
expect "status of doctor before there is a target" $? 0
holds "it is JSON" is_json /tmp/doctor

# Unload an unused module while it has probes. fentry probes hold it, kprobes do not.
modprobe -a nvme nvmet-pci-epf
for attach in fentry kprobe; do
  $nvmepf record --kernel --events nvmet endpoint --attach $attach -o /tmp/u.nvpt -- sh -c 'rmmod nvmet-pci-epf 2>/dev/null; echo $? >/tmp/gone' 2>/tmp/said
  status=$?
  # Nothing but rmmod runs, so 3: nothing was recorded.
  holds "status $status of a recording by $attach during rmmod (rmmod: $(cat /tmp/gone)) is 3 or 0" test $status = 3 -o $status = 0
  cat /tmp/said
  holds "nothing but a line of what it recorded, one of where it is, and one at most of the module" test "$(wc -l </tmp/said)" -le 3
  holds "the trace can be read" sh -c "$nvmepf info /tmp/u.nvpt | grep -q '^complete *yes'"
done
expect "the module is gone under kprobes (status of rmmod)" "$(cat /tmp/gone)" 0

target_up
link_up
disk_up
$nvmepf doctor >/tmp/doctor
expect "status of doctor" $? 0
expect "groups whose probes all attach" "$(grep -c 'green.*: all [0-9]* probes attach' /tmp/doctor)" 6
$nvmepf doctor --json >/tmp/doctor.json
holds "it is JSON" is_json /tmp/doctor.json
holds "and agrees with the text" test "$(tr '}' '\n' </tmp/doctor.json | grep '"state":"green"' | grep -c '"found":"all [0-9]* probes attach"')" = 6
[ "$failures" = 0 ] || cat /tmp/doctor

# Forty reads by one CPU, through one queue.
cat >/tmp/reads <<X
taskset 1 dd if=$disk of=/dev/null bs=4k count=40 iflag=direct 2>/dev/null
X
$nvmepf record --kernel --events nvmet --measure-overhead 2 -o /tmp/o.nvpt -- sh /tmp/reads 2>/tmp/said
expect "status of record --measure-overhead" $? 0
holds "it prints the cost of the probes" grep -q 'with probes the command takes .* longer' /tmp/said
holds "the trace contains it" sh -c "$nvmepf info /tmp/o.nvpt | grep -q '^overhead .*95% confidence, 2 pairs'"

# Reads during the recording cause kernel events.
(until [ -e /tmp/done ]; do sh /tmp/reads; done) &
$nvmepf record --kernel --engine --events nvmet -o /tmp/e.nvpt --rw randread --number 100 2>/tmp/said
expect "status of record --engine" $? 0
touch /tmp/done
wait
$nvmepf info /tmp/e.nvpt >/tmp/info
expect "commands of the engine" "$(sed -n 's/^commands *//p' /tmp/info)" 100
holds "events of engine and kernel" grep -q '^sources.*engine.*kernel' /tmp/info
holds "it replays" $nvmepf replay /tmp/e.nvpt
holds "by default the report describes the engine" sh -c "$nvmepf report /tmp/e.nvpt | grep -q '^100 commands'"
holds "with --controller it describes the kernel's controller" sh -c "$nvmepf report --controller 1 /tmp/e.nvpt | grep -q 'commands in'"

timeout 60 $nvmepf bench --kernel --turns 1 --seconds 0.2 --json >/tmp/bench
expect "status of bench --kernel" $? 0
holds "it is JSON" is_json /tmp/bench
holds "it has the cost of an event" grep -q 'kernel probe, in the kernel' /tmp/bench

finish
