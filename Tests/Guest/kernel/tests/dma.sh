# nvmet-pci-epf with DMA and MSI-X: every command explained, and replayed as identical.
. ./guest.inc
. ./vepc.inc
mode
finish
