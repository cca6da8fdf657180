# However a kernel recording ends, no probe stays attached and the trace is readable.
. ./guest.inc
. ./nvmet.inc
$nvmepf record --kernel --events nvmet -o /tmp/none.nvpt -- true 2>/tmp/said
expect "status without a module" $? 2
expect "lines of the error" "$(wc -l </tmp/said)" 1
holds "it names what to load" grep -q 'modprobe nvmet' /tmp/said
target_up loop
host_up loop

# It reports when all probes are attached; earlier events are not recorded.
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
holds "no probe is attached after Ctrl-C" until_true detached
expect "commands in the trace" "$(request_commands /tmp/int.nvpt | wc -l)" 10

record -o /tmp/kill.nvpt
until_true is_recording
dd if=/dev/nvme0n1 of=/dev/null bs=4k count=10 iflag=direct 2>/dev/null
# Events in a ring survive the recorder, those that are still in the kernel do not.
has_events() { # Bytes 64 to 71 of a ring count the slots that were ever written.
  local ring
  for ring in /dev/shm/nvmepf-*/kernel-*.ring; do
    [ "$(dd if="$ring" bs=1 skip=64 count=8 2>/dev/null | tr -d '\0' | wc -c)" = 0 ] || return 0
  done
  return 1
}
until_true has_events
kill -9 $!
wait $! 2>/dev/null
holds "no probe is attached after kill -9" until_true detached
holds "the trace can be repaired" $nvmepf repair /tmp/kill.nvpt
holds "and read" sh -c "$nvmepf dump /tmp/kill.nvpt >/dev/null"

# unloaded ATTACH - try to unload the driver of PCI controllers while it has probes. fentry probes hold the module, kprobes do
# not; either way the recording continues.
unloaded() {
  modprobe nvme
  record --attach "$1" -o /tmp/unload.nvpt
  until_true is_recording
  dd if=/dev/nvme0n1 of=/dev/null bs=4k count=10 iflag=direct 2>/dev/null
  if rmmod nvme 2>/dev/null; then gone=yes; else gone=no; fi
  dd if=/dev/nvme0n1 of=/dev/null bs=4k count=10 iflag=direct 2>/dev/null
  kill -INT $!
  wait $!
  expect "status of a recording by $1 during rmmod" $? 0
  cat /tmp/said
  holds "it prints its result, and at most one line about the module" test "$(wc -l </tmp/said)" -le 4
  expect "commands before and after it" "$(request_commands /tmp/unload.nvpt | wc -l)" 20
  holds "no probe is attached after it" until_true detached
}
unloaded fentry
unloaded kprobe
expect "the module was unloaded under kprobes" $gone yes

adduser -D -H nobody2 2>/dev/null || echo 'nobody2:x:1000:1000::/:/bin/sh' >>/etc/passwd
su nobody2 -s /bin/sh -c "$nvmepf record --kernel -o /tmp/no.nvpt -- true" 2>/tmp/said
expect "status without privilege" $? 2
expect "lines of the error" "$(wc -l </tmp/said)" 1
holds "it names the capabilities" grep -q CAP_BPF /tmp/said
cat /tmp/said
host_down
finish
