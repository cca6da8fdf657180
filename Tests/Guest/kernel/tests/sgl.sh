# The same with SGLs instead of PRPs.
. ./guest.inc
. ./vepc.inc
NVME=sgl_threshold=1
mode
holds "commands came with SGLs" test "$($nvmepf dump --event fetch /tmp/t.nvpt | grep -c 'cdw0flags=0x40')" -gt 300
finish
