# The same with kprobes, as on kernels without fentry.
. ./guest.inc
. ./vepc.inc
# What an interrupt finds running is not run, and casts doubt on what was under way.
ATTACH=kprobe
COMPARED=600
mode
holds "no function of the driver was looked at by fentry" sh -c "! $nvmepf info /tmp/t.nvpt | grep '^probes fen' | grep -q nvmet_pci"
finish
