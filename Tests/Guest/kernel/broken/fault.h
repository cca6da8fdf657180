/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Faults for a copy of nvmet-pci-epf that plant.sed has prepared. The module
 * parameter `fault` selects a fault, which occurs once. Faults of a command
 * affect only a Read or Write of the block `slba`.
 */
static char fault_name[16];
module_param_string(fault, fault_name, sizeof(fault_name), 0644);

static unsigned long long fault_slba;
module_param_named(slba, fault_slba, ullong, 0644);

static bool strikes(const char *name)
{
	if (!sysfs_streq(fault_name, name))
		return false;
	fault_name[0] = 0;
	return true;
}

static bool strikes_command(const char *name, const struct nvme_command *cmd)
{
	return (cmd->rw.opcode == nvme_cmd_read ||
		cmd->rw.opcode == nvme_cmd_write) &&
	       le64_to_cpu(cmd->rw.slba) == fault_slba && strikes(name);
}

/* No interrupt until the work of the completion queue ends. */
static bool fault_is_silent;

static bool silenced(bool is_end)
{
	bool was_silent = fault_is_silent;

	if (is_end)
		fault_is_silent = false;
	return was_silent;
}

/* Another completion of the same command. */
#define TWIN(iod) ({							\
	struct nvmet_pci_epf_iod *twin =				\
		nvmet_pci_epf_alloc_iod((iod)->sq);			\
									\
	twin->cmd = (iod)->cmd;						\
	twin->status = (iod)->status;					\
	twin;								\
})
