# The same through windows (MMIO), on 4 CPUs.
# SMP=4
. ./guest.inc
. ./vepc.inc
VEPC=use_dma=0
mode
holds "the data went through windows" sh -c "$nvmepf dump --event segment /tmp/t.nvpt | grep -q 'flags=0x[89]'"
resets
finish
