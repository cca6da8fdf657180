# The same with kprobes, as on kernels without fentry.
. ./guest.inc
. ./vepc.inc
# A probe that is already running is not run, which makes the commands in flight doubtful.
ATTACH=kprobe
COMPARED=600
mode
holds "no function of the driver has an fentry probe" sh -c "! $nvmepf info /tmp/t.nvpt | grep '^probes fen' | grep -q nvmet_pci"
finish
