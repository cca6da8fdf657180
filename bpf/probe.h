/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shared by the probes: the owner of a thread's current work, and macros for fentry and kprobe programs. */

static __always_inline struct task *task(void)
{
	u32 tid = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&tasks, &tid);
}

static __always_inline struct task *task_or_new(void)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct task *t = bpf_map_lookup_elem(&tasks, &tid);

	if (t)
		return t;
	bpf_map_update_elem(&tasks, &tid, &no_task, BPF_ANY);
	return bpf_map_lookup_elem(&tasks, &tid);
}

static __always_inline void task_end(void)
{
	u32 tid = bpf_get_current_pid_tgid();

	bpf_map_delete_elem(&tasks, &tid);
}

/*
 * Store the name of the controller that now has a number. A new generation tells readers that it is another controller;
 * a host's driver that has learnt its controller's name keeps its generation.
 */
static __noinline u32 rename(u32 key, u16 cntlid, u64 ctrl, u64 subsys, u64 nqn)
{
	struct name *known = bpf_map_lookup_elem(&names, &key);
	struct name n = { .cntlid = cntlid, .ctrl = ctrl, .subsys = subsys };

	if (known)
		n.generation = known->generation + (known->ctrl != ctrl || known->subsys);
	if (subsys)
		bpf_probe_read_kernel_str(n.nqn, sizeof(n.nqn), (void *)nqn);
	bpf_map_update_elem(&names, &key, &n, BPF_ANY);
	return n.generation;
}

/* Whether the stored name of a number is still valid. */
static __always_inline bool is_known(struct name *name, void *ctrl, void *subsys)
{
	return name && name->ctrl == (u64)ctrl && name->subsys == (u64)subsys;
}

static __always_inline u32 controller_of(struct nvmet_ctrl *ctrl)
{
	struct nvmet_subsys *subsys;
	struct name *known;
	u32 key, generation;
	u16 id;

	if (!ctrl)
		return NO_CONTROLLER;
	id = BPF_CORE_READ(ctrl, cntlid);
	subsys = BPF_CORE_READ(ctrl, subsys);
	key = (u32)TARGET << 16 | id;
	known = bpf_map_lookup_elem(&names, &key);
	if (is_known(known, ctrl, subsys))
		generation = known->generation;
	else
		generation = rename(key, id, (u64)ctrl, (u64)subsys, (u64)BPF_CORE_READ(subsys, subsysnqn));
	return (generation & 0xff) << 16 | id;
}

static __always_inline u32 controller_of_epf(struct nvmet_pci_epf_ctrl *ctrl)
{
	return controller_of(BPF_CORE_READ(ctrl, tctrl));
}

/* Queue, command and controller of an I/O descriptor of nvmet-pci-epf. */
struct identity {
	u32 controller;
	u16 qid, cid;
};

static __always_inline struct identity identify(struct nvmet_pci_epf_iod *iod)
{
	struct identity id = {};

	id.qid = BPF_CORE_READ(iod, sq, qid);
	bpf_probe_read_kernel(&id.cid, 2, (void *)iod + bpf_core_field_offset(struct nvmet_pci_epf_iod, cmd) + 2);
	id.controller = controller_of_epf(BPF_CORE_READ(iod, ctrl));
	return id;
}

static __always_inline u32 queued_span(u64 work)
{
	u64 *since = bpf_map_lookup_elem(&queued, &work);
	u32 ns = 0;

	if (since) {
		ns = span(bpf_ktime_get_ns(), *since);
		bpf_map_delete_elem(&queued, &work);
	}
	return ns;
}

/* ------------------------------------------------------------------ */
/* Every probe twice                                                   */

/* Read with a helper, since older verifiers refuse a relocated access to the context. */
#define ARGUMENT(ctx, x86, arm)                                                  \
	(bpf_core_field_exists(((struct pt_regs___x86 *)0)->di)                  \
		 ? (u64)BPF_CORE_READ((struct pt_regs___x86 *)ctx, x86)          \
		 : (u64)BPF_CORE_READ((struct pt_regs___arm64 *)ctx, regs[arm]))

/* On entry, with the first six arguments. A function that kernels declare differently has programs with other names. */
#define ON_ENTRY(function, BODY) ON_ENTRY_AS(function, function, BODY)
#define ON_ENTRY_AS(program, function, BODY)                                     \
	SEC("fentry/" #function)                                                 \
	int entry_##program(u64 *ctx __attribute__((unused))) { return BODY; }                          \
	SEC("kprobe/" #function)                                                 \
	int kprobe_##program(void *registers_) {                                \
		u64 ctx[6] __attribute__((unused)) = {                                                   \
			ARGUMENT(registers_, di, 0), ARGUMENT(registers_, si, 1),  \
			ARGUMENT(registers_, dx, 2), ARGUMENT(registers_, cx, 3),  \
			ARGUMENT(registers_, r8, 4), ARGUMENT(registers_, r9, 5), }; \
		return BODY;                                                     \
	}

/* On return from a function with this many arguments, with its return value. */
#define ON_RETURN(function, arguments, BODY) ON_RETURN_AS(function, function, arguments, BODY)
#define ON_RETURN_AS(program, function, arguments, BODY)                         \
	SEC("fexit/" #function)                                                  \
	int exit_##program(u64 *ctx) {                                          \
		u64 result = ctx[arguments];                                     \
		(void)result;                                                    \
		return BODY;                                                     \
	}                                                                        \
	SEC("kretprobe/" #function)                                              \
	int kretprobe_##program(void *registers_) {                             \
		u64 result = ARGUMENT(registers_, ax, 0);                          \
		(void)result;                                                    \
		return BODY;                                                     \
	}

/* A void function has no value after its arguments. */
#define ON_END(function, BODY)                                                   \
	SEC("fexit/" #function)                                                  \
	int exit_##function(u64 *ctx __attribute__((unused))) { return BODY; }                           \
	SEC("kretprobe/" #function)                                              \
	int kretprobe_##function(void *registers_ __attribute__((unused))) { return BODY; }
