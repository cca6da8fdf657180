# Features around a recording: doctor, a module unloaded meanwhile, the probes' cost, our engine in the same trace, bench.
. ./guest.inc
. ./vepc.inc
$nvmepf doctor --json >/tmp/doctor
expect "status of doctor before there is a target" $? 0
holds "it is JSON" is_json /tmp/doctor

# A module that nothing uses goes while its functions are looked at. By fentry they hold it, by kprobes they do not.
modprobe -a nvme nvmet-pci-epf
for attach in fentry kprobe; do
  $nvmepf record --kernel --events nvmet endpoint --attach $attach -o /tmp/u.nvpt -- sh -c 'rmmod nvmet-pci-epf 2>/dev/null; echo $? >/tmp/gone' 2>/tmp/said
  expect "status of a recording by $attach whose module was to go (rmmod: $(cat /tmp/gone))" $? 0
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
expect "kinds of probes that doctor finds all of" "$(grep -c 'green.*: all [0-9]* probes attach' /tmp/doctor)" 6
$nvmepf doctor --json >/tmp/doctor.json
holds "it is JSON" is_json /tmp/doctor.json
holds "and says the same" test "$(tr '}' '\n' </tmp/doctor.json | grep '"state":"green"' | grep -c '"found":"all [0-9]* probes attach"')" = 6
[ "$failures" = 0 ] || cat /tmp/doctor

# Forty reads by one CPU, through one queue.
cat >/tmp/reads <<X
taskset 1 dd if=$disk of=/dev/null bs=4k count=40 iflag=direct 2>/dev/null
X
$nvmepf record --kernel --events nvmet --measure-overhead 2 -o /tmp/o.nvpt -- sh /tmp/reads 2>/tmp/said
expect "status of record --measure-overhead" $? 0
holds "it says what the probes cost" grep -q 'with probes the command takes .* longer' /tmp/said
holds "so does the trace" sh -c "$nvmepf info /tmp/o.nvpt | grep -q '^overhead .*95% confidence, 2 pairs'"

# The disk is read meanwhile, so that there is something of the kernel's to record.
(until [ -e /tmp/done ]; do sh /tmp/reads; done) &
$nvmepf record --kernel --engine --events nvmet -o /tmp/e.nvpt --rw randread --number 100 2>/tmp/said
expect "status of record --engine" $? 0
touch /tmp/done
wait
$nvmepf info /tmp/e.nvpt >/tmp/info
expect "commands of the engine" "$(sed -n 's/^commands *//p' /tmp/info)" 100
holds "the engine's events, and the kernel's" grep -q '^sources.*engine.*kernel' /tmp/info
holds "it replays" $nvmepf replay /tmp/e.nvpt
holds "the report is the engine's" sh -c "$nvmepf report /tmp/e.nvpt | grep -q '^100 commands'"
holds "and the kernel's where it is asked for" sh -c "$nvmepf report --controller 1 /tmp/e.nvpt | grep -q 'commands in'"

timeout 60 $nvmepf bench --kernel --turns 1 --seconds 0.2 --json >/tmp/bench
expect "status of bench --kernel" $? 0
holds "it is JSON" is_json /tmp/bench
holds "it has the cost of an event" grep -q 'kernel probe, in the kernel' /tmp/bench

finish
