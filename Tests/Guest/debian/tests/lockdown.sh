# A locked-down kernel, or one without BTF, is reported in one line.
# PARAMETERS=lockdown=confidentiality
. ./guest.inc
. ./nvmet.inc
target_up loop
host_up loop
holds "the kernel is locked down" grep -q '\[confidentiality\]' /sys/kernel/security/lockdown
$nvmepf record --kernel -o /tmp/t.nvpt -- true 2>/tmp/said
expect "status under lockdown" $? 2
cat /tmp/said
expect "lines of the error" "$(wc -l </tmp/said)" 1
holds "it names the lockdown" grep -q 'locked down' /tmp/said
$nvmepf doctor >/tmp/doctor
expect "status of doctor" $? 1
holds "doctor reports it too" grep -q 'locked down' /tmp/doctor
: >/tmp/empty
mount --bind /tmp/empty /sys/kernel/btf/vmlinux
$nvmepf record --kernel -o /tmp/t.nvpt -- true 2>/tmp/said
expect "status without BTF" $? 2
holds "it names what the kernel lacks" grep -q CONFIG_DEBUG_INFO_BTF /tmp/said
cat /tmp/said
finish
