# Inserts the faults of fault.h into a copy of pci-epf.c. build.sh checks that all places were found.
/^#include "nvmet.h"/a #include "fault.h"

# fetch: a submission queue entry cannot be transferred.
/^static int nvmet_pci_epf_dma_transfer(/,/^}/ {
  /dmaengine_get_dma_device(chan)/i \	if (dir == DMA_FROM_DEVICE && seg->length == sizeof(struct nvme_command) && strikes("fetch"))\n\t\treturn -EIO;
}

# dropped: the entry was transferred and is forgotten.
/queue_work_on(.*sq->iod_wq, &iod->work);/ {
  i \		if (strikes_command("dropped", &iod->cmd))\n\t\t\tnvmet_pci_epf_free_iod(iod);\n\t\telse
}

# short: the last block of a segment is not transferred.
/^static int nvmet_pci_epf_transfer_iod_data(/,/^}/ {
  /nvmet_pci_epf_transfer_seg(/i \		if (strikes_command("short", &iod->cmd))\n\t\t\tseg->length -= 512;
}

# double: a command is completed twice.
/^static void nvmet_pci_epf_exec_iod_work(.*)$/,/^}/ {
  /^\tnvmet_pci_epf_complete_iod(iod);/i \	if (strikes_command("double", &iod->cmd))\n\t\tnvmet_pci_epf_complete_iod(TWIN(iod));
}

# entry, garbage: a completion queue entry without its identifiers, and one with a nonzero reserved dword.
/cqe->status = cpu_to_le16(.*phase);/ {
  a \		if (strikes_command("entry", &iod->cmd))\n\t\t\tcqe->sq_id = cqe->command_id = 0;
  a \		if (strikes_command("garbage", &iod->cmd))\n\t\t\tcqe->result.u64 |= cpu_to_le64(0xdeadbeefULL << 32);
  # silent: no interrupt for it.
  a \		if (strikes_command("silent", &iod->cmd))\n\t\t\tfault_is_silent = true;
}
s/if (!nvmet_pci_epf_should_raise_irq(ctrl, cq, force))/if (!nvmet_pci_epf_should_raise_irq(ctrl, cq, force) || silenced(force))/

# csts: still ready after it was disabled.
/^static void nvmet_pci_epf_disable_ctrl(/,/^}/ {
  /ctrl->csts &= ~NVME_CSTS_RDY;/i \	if (!strikes("csts"))
}
