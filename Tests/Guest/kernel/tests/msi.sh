# The same with MSI and a block of 4 KiB.
. ./guest.inc
. ./vepc.inc
VEPC=use_msix=0 MSIX=0 MSI=4 BLOCK=4096
mode
resets
finish
