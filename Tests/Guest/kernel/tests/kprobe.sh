# The same by kprobes, as where a kernel has no fentry.
. ./guest.inc
. ./vepc.inc
ATTACH=kprobe mode
holds "no function of the driver was looked at by fentry" sh -c "! $nvmepf info /tmp/t.nvpt | grep '^probes fen' | grep -q nvmet_pci"
finish
