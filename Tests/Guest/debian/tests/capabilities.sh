# A recording needs exactly the documented capabilities; without them it fails with one line.
. ./guest.inc
. ./nvmet.inc
target_up loop
host_up loop
chmod 666 /dev/nvme0n1

# recorded_with CAPABILITIES - record as a user with only these capabilities. Full path, because busybox's setpriv cannot change
# users.
recorded_with() {
  local have=-all,$1
  rm -f /tmp/c.nvpt
  /usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=$have --ambient-caps=$have --bounding-set=$have \
    $nvmepf record --kernel -o /tmp/c.nvpt -- dd if=/dev/nvme0n1 of=/dev/null bs=4k count=10 iflag=direct 2>/tmp/said
}
recorded_with +bpf,+perfmon
status=$?
cat /tmp/said
# Some kernels need no more.
if [ $status = 0 ]; then
  expect "commands with CAP_BPF and CAP_PERFMON alone" "$(request_commands /tmp/c.nvpt | wc -l)" 10
else
  expect "status with CAP_BPF and CAP_PERFMON alone" $status 2
  expect "lines of the error" "$(wc -l </tmp/said)" 1
  holds "it names what is missing" grep -q 'CAP_SYS_ADMIN.*CAP_SYSLOG' /tmp/said
  holds "there is no trace" test ! -e /tmp/c.nvpt
fi
recorded_with +bpf,+perfmon,+sys_admin,+syslog
expect "status with all capabilities named" $? 0
cat /tmp/said
expect "commands in the trace" "$(request_commands /tmp/c.nvpt | wc -l)" 10
expect "commands as the host saw them" "$($nvmepf dump --event submit /tmp/c.nvpt | grep -vc ' qid=0 ')" 10
host_down
finish
