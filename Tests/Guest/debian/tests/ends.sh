# However a recording of the kernel ends, nothing is left attached and the trace can be read.
. ./guest.inc
. ./nvmet.inc
$nvmepf record --kernel --events nvmet -o /tmp/none.nvpt -- true 2>/tmp/said
expect "status without a module" $? 2
expect "lines that say so" "$(wc -l </tmp/said)" 1
holds "it names what to load" grep -q 'modprobe nvmet' /tmp/said
target_up loop
host_up loop
attached >/tmp/before

$nvmepf record --kernel -o /tmp/int.nvpt 2>/dev/null &
until_true sh -c 'bpftool link list | grep -q nvmet_req'
dd if=/dev/nvme0n1 of=/dev/null bs=4k count=10 iflag=direct 2>/dev/null
holds "the module cannot be unloaded meanwhile" sh -c '! rmmod nvmet 2>/dev/null'
kill -INT $!
wait $!
holds "nothing is attached after Ctrl-C" until_true detached
expect "commands in the trace" "$(request_commands /tmp/int.nvpt | wc -l)" 10

$nvmepf record --kernel -o /tmp/kill.nvpt 2>/dev/null &
until_true sh -c 'bpftool link list | grep -q nvmet_req'
dd if=/dev/nvme0n1 of=/dev/null bs=4k count=10 iflag=direct 2>/dev/null
# Half a second is what the recorder may keep to itself; what the rings hold is not lost with it.
until_true sh -c 'ls /dev/shm/nvmepf-*/kernel-*.ring'
kill -9 $!
wait $! 2>/dev/null
holds "nothing is attached after kill -9" until_true detached
holds "the trace can be repaired" $nvmepf repair /tmp/kill.nvpt
holds "and read" sh -c "$nvmepf dump /tmp/kill.nvpt >/dev/null"

adduser -D -H nobody2 2>/dev/null || echo 'nobody2:x:1000:1000::/:/bin/sh' >>/etc/passwd
su nobody2 -s /bin/sh -c "$nvmepf record --kernel -o /tmp/no.nvpt -- true" 2>/tmp/said
expect "status without privilege" $? 2
expect "lines that say so" "$(wc -l </tmp/said)" 1
holds "it names the capabilities" grep -q CAP_BPF /tmp/said
cat /tmp/said
host_down
finish
