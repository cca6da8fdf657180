# However a kernel recording ends, no probe stays attached and the trace is readable.
. ./guest.inc
. ./nvmet.inc
$nvmepf record --kernel --events nvmet -o /tmp/none.nvpt -- true 2>/tmp/said
expect "status without a module" $? 2
expect "lines that say so" "$(wc -l </tmp/said)" 1
holds "it names what to load" grep -q 'modprobe nvmet' /tmp/said
target_up loop
host_up loop

# It says when all probes are attached: what comes before is not recorded.
is_recording() { grep -q 'recording the kernel' /tmp/said; }
record() { # OPTION...
  rm -f /tmp/said
  $nvmepf record --kernel "$@" 2>/tmp/said &
}
record -o /tmp/int.nvpt
until_true is_recording
dd if=/dev/nvme0n1 of=/dev/null bs=4k count=10 iflag=direct 2>/dev/null
kill -INT $!
wait $!
holds "nothing is attached after Ctrl-C" until_true detached
expect "commands in the trace" "$(request_commands /tmp/int.nvpt | wc -l)" 10

record -o /tmp/kill.nvpt
until_true is_recording
dd if=/dev/nvme0n1 of=/dev/null bs=4k count=10 iflag=direct 2>/dev/null
# Half a second is what the recorder may keep to itself; what the rings hold is not lost with it.
until_true sh -c 'ls /dev/shm/nvmepf-*/kernel-*.ring'
kill -9 $!
wait $! 2>/dev/null
holds "nothing is attached after kill -9" until_true detached
holds "the trace can be repaired" $nvmepf repair /tmp/kill.nvpt
holds "and read" sh -c "$nvmepf dump /tmp/kill.nvpt >/dev/null"

# unloaded ATTACH - the driver of PCI controllers, of which there are none, goes while its functions are looked at. By
# fentry they hold it, by kprobes they do not: either way the recording goes on.
unloaded() {
  modprobe nvme
  record --attach "$1" -o /tmp/unload.nvpt
  until_true is_recording
  dd if=/dev/nvme0n1 of=/dev/null bs=4k count=10 iflag=direct 2>/dev/null
  if rmmod nvme 2>/dev/null; then gone=yes; else gone=no; fi
  dd if=/dev/nvme0n1 of=/dev/null bs=4k count=10 iflag=direct 2>/dev/null
  kill -INT $!
  wait $!
  expect "status of a recording by $1 whose module was to go" $? 0
  cat /tmp/said
  holds "it says no more than what it recorded, and of the module a line at most" test "$(wc -l </tmp/said)" -le 4
  expect "commands before and after it" "$(request_commands /tmp/unload.nvpt | wc -l)" 20
  holds "nothing is attached after it" until_true detached
}
unloaded fentry
unloaded kprobe
expect "the module was unloaded under kprobes" $gone yes

adduser -D -H nobody2 2>/dev/null || echo 'nobody2:x:1000:1000::/:/bin/sh' >>/etc/passwd
su nobody2 -s /bin/sh -c "$nvmepf record --kernel -o /tmp/no.nvpt -- true" 2>/tmp/said
expect "status without privilege" $? 2
expect "lines that say so" "$(wc -l </tmp/said)" 1
holds "it names the capabilities" grep -q CAP_BPF /tmp/said
cat /tmp/said
host_down
finish
