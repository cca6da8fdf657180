// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the kernel's NVMe target and host do to commands, as events of nvmepf's
 * traces: one ring buffer a CPU, each event complete in itself.
 *
 * Each probe exists for fentry/fexit and for kprobe/kretprobe; whoever loads
 * this takes the one that the kernel has, or none (Sources/Probe). A body
 * trusts nothing that it reads but the arguments: kernel memory is read with
 * bpf_probe_read_kernel(), which fails where it must.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set before loading. */
const volatile u32 only_qid = ~0u;
/* Work functions, as work_struct.func has them; 0 where unknown. */
const volatile u64 exec_iod_work = 0;
const volatile u64 cq_work = 0;

/* Set once every probe is attached: events of before would be of half a recording. */
volatile u32 recording;

/* Kinds of events: EventKind of Sources/Trace. */
enum kind {
	REGISTER_WRITE = 2,
	DOORBELL = 3,
	FETCH = 4,
	READ = 5,
	SEGMENT = 7,
	COMPLETION = 8,
	INTERRUPT = 9,
	SUBMIT = 20,
	EXECUTE_BEGIN = 22,
	EXECUTE_END = 23,
	REQUEST = 51,
	WORK = 52,
	WORK_END = 53,
	RESPONSE = 54,
	COMPLETION_QUEUED = 55,
	INTERRUPT_REQUEST = 56,
	WINDOW = 57,
	QUEUE = 58,
	STATUS = 59,
	LINK = 60,
	EVENT = 61,
	DROPPED = 62,
	BLOCK = 63,
	ENTRY = 65,
	QUEUE_STATE = 66,
};

enum role { TARGET = 0, HOST = 1 };
enum work { WORK_COMMAND = 0, WORK_COMPLETION_QUEUE = 1 };

/* Values of the kernel's enums, which its interface has fixed. */
#define DMA_TO_DEVICE 1
#define DMA_FROM_DEVICE 2

#define FLAG_FROM_HOST 0x01
#define FLAG_FAILED 0x02
#define FLAG_MMIO 0x08
#define FLAG_CUT 0x10
#define FLAG_BYTES 0x80

#define WINDOW_UNMAPPED 0x01
#define WINDOW_COMPLETION_QUEUE 0x04

/* A controller in the programs: its identifier, and in bits 23:16 which of those that have had it. */
#define NO_CONTROLLER 0xffff
#define LIST_MAX 4096

/* As Sources/Probe/RawEvent.swift reads it. */
struct event {
	u64 time;	/* CLOCK_MONOTONIC, ns */
	u64 lost;	/* events that this CPU had no room for, ever */
	u64 a;
	u64 b;
	u16 qid;
	u16 cid;
	u16 controller;
	u8 kind;
	u8 flags;
	u32 length;	/* of the bytes that follow */
	u8 role;
	u8 generation;	/* of the controller */
	u8 padding[2];
};

struct event_sqe {
	struct event event;
	u8 bytes[64];
};

struct event_list {
	struct event event;
	u8 bytes[LIST_MAX];
};

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

/* By CPU; sized and filled by whoever loads this. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, u32);
	__array(values, struct ring);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} lost SEC(".maps");

/* What a thread of the driver is at. */
struct task {
	u64 iod;	/* in exec_iod_work */
	u64 cq;		/* in cq_work */
	u64 ctrl;	/* in poll_cc_work */
	u64 failed;	/* the descriptor whose entry could not be fetched */
	u32 controller;
	u16 qid;
	u16 cid;
	/* the transfer, window or queue function that it has entered */
	u64 begin;
	u64 buf;
	u64 address;
	u32 size;
	u32 direction;
	u64 is_list;	/* not one of the command's data segments */
	u64 window_begin;
	u64 window_address;
	u64 window_size;
	u64 queue_address;
	u16 queue_id;
	u16 queue_size;
	u16 queue_other;
	u16 irq_cqid;
	u16 in_queue;	/* in create_cq or delete_cq */
	u16 irq_type;
	u32 irq_number;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct task);
} tasks SEC(".maps");

/* When a work item was queued. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, u64);
} queued SEC(".maps");

/* Registers as they were last seen, by controller: CSTS as the host reads it and as the driver means it. */
struct registers {
	u32 cc;
	u32 csts;
	u32 csts_driver;
	u32 padding;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, u64);
	__type(value, struct registers);
} registers SEC(".maps");

/* What a controller is called, by role << 16 | its number here; numbers are used again by others. As Probes.swift reads it. */
struct name {
	char nqn[224];
	u16 cntlid;
	u8 generation;
	u8 padding[5];
	u64 ctrl;	/* whose name it is */
	u64 subsys;	/* 0 until it is known */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, struct name);
} names SEC(".maps");

static const struct task no_task = { .controller = NO_CONTROLLER };

/* ------------------------------------------------------------------ */
/* Emitting                                                            */

static __always_inline void *reserve(u64 size)
{
	u32 cpu = bpf_get_smp_processor_id(), zero = 0;
	void *ring = bpf_map_lookup_elem(&rings, &cpu);
	u64 *missing = bpf_map_lookup_elem(&lost, &zero);
	struct event *e;

	if (!recording || !ring || !missing)
		return 0;
	e = 0;
	if (size == sizeof(struct event))
		e = bpf_ringbuf_reserve(ring, sizeof(struct event), 0);
	else if (size == sizeof(struct event_sqe))
		e = bpf_ringbuf_reserve(ring, sizeof(struct event_sqe), 0);
	else
		e = bpf_ringbuf_reserve(ring, sizeof(struct event_list), 0);
	if (!e) {
		/* An interrupt may come between reading and writing. */
		__sync_fetch_and_add(missing, 1);
		return 0;
	}
	e->lost = *missing;
	e->time = bpf_ktime_get_ns();
	e->length = 0;
	return e;
}

static __always_inline void name(struct event *e, u8 kind, u8 flags, u8 role,
				 u32 controller, u16 qid, u16 cid)
{
	e->kind = kind;
	e->flags = flags;
	e->role = role;
	e->controller = (u16)controller;
	e->generation = (u8)(controller >> 16);
	e->qid = qid;
	e->cid = cid;
}

static __always_inline u32 span(u64 end, u64 begin)
{
	u64 ns = end - begin;

	if (!begin || end < begin)
		return 0;
	return ns > ~0u ? ~0u : (u32)ns;
}

static __always_inline u64 pair(u32 low, u32 high)
{
	return (u64)high << 32 | low;
}

static __always_inline bool wanted(u16 qid)
{
	return only_qid == ~0u || only_qid == qid;
}

/* An event without further bytes, of whatever queue. */
static __always_inline int emit_any(u8 role, u8 kind, u8 flags, u32 controller,
				    u16 qid, u16 cid, u64 a, u64 b)
{
	struct event *e = reserve(sizeof(*e));

	if (!e)
		return 0;
	name(e, kind, flags, role, controller, qid, cid);
	e->a = a;
	e->b = b;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline int emit_as(u8 role, u8 kind, u8 flags, u32 controller,
				   u16 qid, u16 cid, u64 a, u64 b)
{
	return wanted(qid) ? emit_any(role, kind, flags, controller, qid, cid, a, b) : 0;
}

static __always_inline int emit(u8 kind, u8 flags, u32 controller, u16 qid,
				u16 cid, u64 a, u64 b)
{
	return emit_as(TARGET, kind, flags, controller, qid, cid, a, b);
}

/* ------------------------------------------------------------------ */
/* Looking                                                             */

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
 * Remember the name of a controller that has a number now. Whoever reads the events finds by the generation that it is
 * another's; a host's driver that has learnt whom it drives is the same as before.
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

/* Is what is known of a number still so? */
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

/* Read with a helper, for a relocated access to the context itself is one that older verifiers refuse. */
#define ARGUMENT(ctx, x86, arm)                                                  \
	(bpf_core_field_exists(((struct pt_regs___x86 *)0)->di)                  \
		 ? (u64)BPF_CORE_READ((struct pt_regs___x86 *)ctx, x86)          \
		 : (u64)BPF_CORE_READ((struct pt_regs___arm64 *)ctx, regs[arm]))

/* On entry, with the first six arguments. A function that kernels declare otherwise has programs under another name. */
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

/* On return from a function of so many arguments, with what it returns. */
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

/* A function that returns nothing has no value behind its arguments. */
#define ON_END(function, BODY)                                                   \
	SEC("fexit/" #function)                                                  \
	int exit_##function(u64 *ctx __attribute__((unused))) { return BODY; }                           \
	SEC("kretprobe/" #function)                                              \
	int kretprobe_##function(void *registers_ __attribute__((unused))) { return BODY; }

/* ------------------------------------------------------------------ */
/* nvmet, any transport                                                */

/* Write, Read, Write Uncorrectable, Compare, Write Zeroes, Verify: NLB is in CDW12 15:0. */
static __always_inline bool has_blocks(u8 opcode)
{
	return opcode == 1 || opcode == 2 || opcode == 4 || opcode == 5 || opcode == 8 || opcode == 12;
}

SEC("raw_tracepoint/nvmet_req_init")
int tp_nvmet_req_init(u64 *ctx)
{
	struct nvmet_req *req = (void *)ctx[0];
	u8 sqe[56] = {};
	u16 qid = BPF_CORE_READ(req, sq, qid);
	bool io = qid != 0;

	if (!wanted(qid))
		return 0;
	bpf_probe_read_kernel(sqe, 52, (void *)ctx[1]);
	return emit(REQUEST, sqe[0], controller_of(BPF_CORE_READ(req, sq, ctrl)), qid, *(u16 *)(sqe + 2),
		    io ? *(u64 *)(sqe + 40) : 0,
		    pair(io && has_blocks(sqe[0]) ? (u32)*(u16 *)(sqe + 48) + 1 : 0, *(u32 *)(sqe + 4)));
}

SEC("raw_tracepoint/nvmet_req_complete")
int tp_nvmet_req_complete(u64 *ctx)
{
	struct nvmet_req *req = (void *)ctx[0];
	u16 qid = BPF_CORE_READ(req, sq, qid), cid = 0, status = 0;

	if (!wanted(qid))
		return 0;
	bpf_probe_read_kernel(&cid, 2, BPF_CORE_READ(req, cmd) + 2);
	bpf_probe_read_kernel(&status, 2, BPF_CORE_READ(req, cqe) + 14);
	return emit(EXECUTE_END, 0, controller_of(BPF_CORE_READ(req, sq, ctrl)), qid, cid,
		    pair(status >> 1, BPF_CORE_READ(req, transfer_len)), 0);
}

SEC("raw_tracepoint/nvmet_async_event")
int tp_nvmet_async_event(u64 *ctx)
{
	return emit(EVENT, 0, controller_of((void *)ctx[0]), 0, 0, (u32)ctx[1], 0);
}

static __always_inline int executes(struct nvmet_req *req)
{
	u16 qid = BPF_CORE_READ(req, sq, qid);
	u8 sqe[56] = {};

	if (!wanted(qid))
		return 0;
	bpf_probe_read_kernel(sqe, 52, BPF_CORE_READ(req, cmd));
	return emit(EXECUTE_BEGIN, sqe[0], controller_of(BPF_CORE_READ(req, sq, ctrl)), qid, *(u16 *)(sqe + 2),
		    *(u64 *)(sqe + 40), pair((u32)*(u16 *)(sqe + 48) + 1, *(u32 *)(sqe + 4)));
}

ON_ENTRY(nvmet_bdev_execute_rw, executes((void *)ctx[0]))
ON_ENTRY(nvmet_file_execute_rw, executes((void *)ctx[0]))

/* ------------------------------------------------------------------ */
/* nvmet-pci-epf: commands                                             */

static __always_inline int work_begins(u64 work)
{
	u64 address = work - bpf_core_field_offset(struct nvmet_pci_epf_iod, work);
	struct nvmet_pci_epf_iod *iod = (void *)address;
	struct identity id = identify(iod);
	struct task *t = task_or_new();

	if (!t)
		return 0;
	t->iod = address;
	t->qid = id.qid;
	t->cid = id.cid;
	t->controller = id.controller;
	return emit(WORK, WORK_COMMAND, id.controller, id.qid, id.cid, 0, queued_span(work));
}

static __always_inline int work_ends(void)
{
	struct task *t = task();

	if (!t || !t->iod)
		return 0;
	emit(WORK_END, WORK_COMMAND, t->controller, t->qid, t->cid, 0, 0);
	task_end();
	return 0;
}

ON_ENTRY(nvmet_pci_epf_exec_iod_work, work_begins(ctx[0]))
ON_END(nvmet_pci_epf_exec_iod_work, work_ends())

/*
 * Data is moved by the descriptor's own segments, a list by one on the stack. Where that cannot be told, nothing is a
 * list: what it holds would be kept.
 */
static __always_inline bool is_list(struct nvmet_pci_epf_iod *iod, u64 segment)
{
	u64 first, size = bpf_core_type_size(struct nvmet_pci_epf_segment);

	if (!bpf_core_field_exists(iod->data_segs) || !bpf_core_field_exists(iod->nr_data_segs))
		return false;
	first = (u64)BPF_CORE_READ(iod, data_segs);
	return segment < first || segment >= first + size * BPF_CORE_READ(iod, nr_data_segs);
}

static __always_inline int transfer_begins(struct nvmet_pci_epf_segment *segment, u32 direction)
{
	struct task *t = task_or_new();
	struct identity id;

	if (!t)
		return 0;
	t->buf = (u64)BPF_CORE_READ(segment, buf);
	t->address = BPF_CORE_READ(segment, pci_addr);
	t->size = BPF_CORE_READ(segment, length);
	t->direction = direction;
	if (t->iod) {
		t->is_list = direction == DMA_FROM_DEVICE && is_list((void *)t->iod, (u64)segment);
	} else {
		/* Of an entry, whose queue is known before it is there. */
		id = identify((void *)(t->buf - bpf_core_field_offset(struct nvmet_pci_epf_iod, cmd)));
		t->qid = id.qid;
		t->cid = 0;
		t->controller = id.controller;
	}
	t->begin = bpf_ktime_get_ns();
	return 0;
}

/* The transfer was of a submission queue entry into its descriptor, or of what a worker does that is not known. */
static __always_inline int fetched(struct task *t, u8 flags)
{
	u64 address = t->buf - bpf_core_field_offset(struct nvmet_pci_epf_iod, cmd);
	struct nvmet_pci_epf_iod *iod = (void *)address;
	struct identity id = identify(iod);
	u64 base = BPF_CORE_READ(iod, sq, pci_addr), entry = BPF_CORE_READ(iod, sq, qes);
	u64 offset = t->address - base;
	struct event_sqe *e;

	if (!entry || t->size != entry || offset >= entry * BPF_CORE_READ(iod, sq, depth))
		return 0;
	t->failed = flags & FLAG_FAILED ? address : 0;
	if (!wanted(id.qid))
		return 0;
	e = reserve(sizeof(*e));
	if (!e)
		return 0;
	name(&e->event, FETCH, flags, TARGET, id.controller, id.qid, id.cid);
	e->event.a = offset / entry;
	e->event.b = span(e->event.time, t->begin);
	e->event.length = 64;
	if (bpf_probe_read_kernel(e->bytes, 64, (void *)t->buf))
		__builtin_memset(e->bytes, 0, 64);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

/* The transfer was of a PRP list or an SGL segment. */
static __always_inline int list_read(struct task *t, u8 flags)
{
	struct event_list *e;
	u32 length = t->size;

	if (!wanted(t->qid))
		return 0;
	e = reserve(sizeof(*e));
	if (!e)
		return 0;
	if (length > LIST_MAX) {
		length = LIST_MAX;
		flags |= FLAG_CUT;
	}
	if (bpf_probe_read_kernel(e->bytes, length, (void *)t->buf))
		length = 0;
	name(&e->event, READ, flags | FLAG_BYTES, TARGET, t->controller, t->qid, t->cid);
	e->event.a = t->address;
	e->event.b = pair(length, span(e->event.time, t->begin));
	e->event.length = length;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline int transfer_ends(u64 result, u8 flags)
{
	struct task *t = task();
	u32 ns;

	if (!t || !t->begin)
		return 0;
	if ((int)result)
		flags |= FLAG_FAILED;
	if (!t->iod) {
		fetched(t, flags);
	} else if (t->is_list) {
		list_read(t, flags);
	} else {
		/* The device is the host. */
		if (t->direction == DMA_FROM_DEVICE)
			flags |= FLAG_FROM_HOST;
		ns = span(bpf_ktime_get_ns(), t->begin);
		emit(SEGMENT, flags, t->controller, t->qid, t->cid, t->address, pair(t->size, ns));
	}
	t->begin = 0;
	return 0;
}

ON_ENTRY(nvmet_pci_epf_dma_transfer, transfer_begins((void *)ctx[1], ctx[2]))
ON_RETURN(nvmet_pci_epf_dma_transfer, 3, transfer_ends(result, 0))
ON_ENTRY(nvmet_pci_epf_mmio_transfer, transfer_begins((void *)ctx[1], ctx[2]))
ON_RETURN(nvmet_pci_epf_mmio_transfer, 3, transfer_ends(result, FLAG_MMIO))

static __always_inline int about(struct nvmet_pci_epf_iod *iod, u8 kind)
{
	struct identity id = identify(iod);

	return emit(kind, 0, id.controller, id.qid, id.cid, 0, 0);
}

ON_ENTRY(nvmet_pci_epf_queue_response,
	 about((void *)(ctx[0] - bpf_core_field_offset(struct nvmet_pci_epf_iod, req)), RESPONSE))
ON_ENTRY(nvmet_pci_epf_complete_iod, about((void *)ctx[0], COMPLETION_QUEUED))

/* ------------------------------------------------------------------ */
/* nvmet-pci-epf: completion                                           */

static __always_inline int completion_work_begins(u64 work)
{
	u64 address = work - bpf_core_field_offset(struct nvmet_pci_epf_queue, work);
	struct nvmet_pci_epf_queue *cq = (void *)address;
	struct task *t = task_or_new();

	if (!t)
		return 0;
	t->iod = 0;
	t->cq = address;
	t->qid = BPF_CORE_READ(cq, qid);
	t->controller = controller_of_epf(BPF_CORE_READ(cq, ctrl));
	return emit(WORK, WORK_COMPLETION_QUEUE, t->controller, t->qid, 0, 0, queued_span(work));
}

static __always_inline int completion_work_ends(void)
{
	struct task *t = task();

	if (!t || !t->cq)
		return 0;
	emit(WORK_END, WORK_COMPLETION_QUEUE, t->controller, t->qid, 0, 0, 0);
	task_end();
	return 0;
}

ON_ENTRY(nvmet_pci_epf_cq_work, completion_work_begins(ctx[0]))
ON_END(nvmet_pci_epf_cq_work, completion_work_ends())

/* Freed in cq_work a descriptor has been completed; elsewhere it was dropped. */
static __always_inline int freed(struct nvmet_pci_epf_iod *iod)
{
	struct identity id = identify(iod);
	struct task *t = task();
	u64 cqe[2] = {};

	if (!t || !t->cq)
		return emit(DROPPED, t && t->failed == (u64)iod ? FLAG_FAILED : 0, id.controller, id.qid, id.cid, 0, 0);
	bpf_probe_read_kernel(cqe, 16, (void *)iod + bpf_core_field_offset(struct nvmet_pci_epf_iod, cqe));
	return emit(COMPLETION, 0, id.controller, t->qid, id.cid, cqe[0], cqe[1]);
}

ON_ENTRY(nvmet_pci_epf_free_iod, freed((void *)ctx[0]))

static __always_inline int interrupt_asked(struct nvmet_pci_epf_ctrl *ctrl, struct nvmet_pci_epf_queue *cq, bool force)
{
	u16 qid = BPF_CORE_READ(cq, qid);
	struct task *t = task_or_new();

	if (t) {
		t->irq_cqid = qid;
		t->controller = controller_of_epf(ctrl);
	}
	return emit(INTERRUPT_REQUEST, force, controller_of_epf(ctrl), qid, 0, 0, 0);
}

ON_ENTRY(nvmet_pci_epf_raise_irq, interrupt_asked((void *)ctx[0], (void *)ctx[1], ctx[2]))

/* ------------------------------------------------------------------ */
/* The PCI endpoint core, as far as nvmet-pci-epf uses it              */

static __always_inline int interrupt_begins(u32 type, u32 number)
{
	struct task *t = task();

	if (t) {
		t->irq_type = type;
		t->irq_number = number;
	}
	return 0;
}

static __always_inline int interrupt_ends(u64 result)
{
	struct task *t = task();

	if (!t || !t->cq)
		return 0;
	/* Messages are numbered from 1; an INTx has number 0. */
	return emit(INTERRUPT, (int)result ? FLAG_FAILED : 0, t->controller, t->irq_cqid, t->irq_type,
		    t->irq_number ? t->irq_number - 1 : 0, 0);
}

ON_ENTRY(pci_epc_raise_irq, interrupt_begins(ctx[3], ctx[4]))
ON_RETURN(pci_epc_raise_irq, 5, interrupt_ends(result))

static __always_inline int window_begins(u64 address, u64 size)
{
	struct task *t = task();

	if (!t)
		return 0;
	t->window_address = address;
	t->window_size = size;
	t->window_begin = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int window_ends(u64 result, bool unmaps)
{
	struct task *t = task();

	if (!t || !t->window_begin)
		return 0;
	emit(WINDOW,
	     (unmaps ? WINDOW_UNMAPPED : 0) | ((int)result ? FLAG_FAILED : 0) |
		     (t->cq || t->in_queue ? WINDOW_COMPLETION_QUEUE : 0),
	     t->controller, t->in_queue ? t->queue_id : t->qid, t->in_queue ? 0 : t->cid,
	     t->window_address, pair(t->window_size, span(bpf_ktime_get_ns(), t->window_begin)));
	t->window_begin = 0;
	return 0;
}

ON_ENTRY(pci_epc_mem_map, window_begins(ctx[3], ctx[4]))
ON_RETURN(pci_epc_mem_map, 6, window_ends(result, false))
ON_ENTRY(pci_epc_mem_unmap, window_begins(0, 0))
ON_END(pci_epc_mem_unmap, window_ends(0, true))

/* ------------------------------------------------------------------ */
/* nvmet-pci-epf: queues, registers, link                              */

#define QUEUE_COMPLETION 0x01
#define QUEUE_DELETED 0x02

static __always_inline int queue_begins(u64 tctrl, u16 qid, u16 size, u64 address, u16 other, bool completes)
{
	struct task *t = task_or_new();

	if (!t)
		return 0;
	t->queue_id = qid;
	t->queue_size = size;
	t->queue_address = address;
	t->queue_other = other;
	t->in_queue = completes;
	t->controller = controller_of((void *)tctrl);
	return 0;
}

static __always_inline int queue_ends(u64 result, u8 flags)
{
	struct task *t = task();

	if (!t)
		return 0;
	t->in_queue = 0;
	return emit(QUEUE, flags, t->controller, t->queue_id, t->queue_other, t->queue_address,
		    pair((u32)t->queue_size + 1, (u16)result));
}

ON_ENTRY(nvmet_pci_epf_create_cq, queue_begins(ctx[0], ctx[1], ctx[3], ctx[4], ctx[5], true))
ON_RETURN(nvmet_pci_epf_create_cq, 6, queue_ends(result, QUEUE_COMPLETION))
ON_ENTRY(nvmet_pci_epf_delete_cq, queue_begins(ctx[0], ctx[1], 0xffff, 0, 0, true))
ON_RETURN(nvmet_pci_epf_delete_cq, 2, queue_ends(result, QUEUE_COMPLETION | QUEUE_DELETED))
ON_ENTRY(nvmet_pci_epf_create_sq, queue_begins(ctx[0], ctx[1], ctx[4], ctx[5], ctx[2], false))
ON_RETURN(nvmet_pci_epf_create_sq, 6, queue_ends(result, 0))
/* Without the completion queue, which was that of the same number. */
ON_ENTRY_AS(nvmet_pci_epf_create_sq_5, nvmet_pci_epf_create_sq, queue_begins(ctx[0], ctx[1], ctx[3], ctx[4], ctx[1], false))
ON_RETURN_AS(nvmet_pci_epf_create_sq_5, nvmet_pci_epf_create_sq, 5, queue_ends(result, 0))
ON_ENTRY(nvmet_pci_epf_delete_sq, queue_begins(ctx[0], ctx[1], 0xffff, 0, 0, false))
ON_RETURN(nvmet_pci_epf_delete_sq, 2, queue_ends(result, QUEUE_DELETED))

static __always_inline void register_is(u32 controller, u32 offset, u8 width, u64 value)
{
	emit(REGISTER_WRITE, width, controller, 0, 0, offset, value);
}

/* Before the driver looks at CC: has the host changed it? */
static __always_inline int configuration_polled(u64 work)
{
	struct nvmet_pci_epf_ctrl *ctrl = (void *)(work - bpf_core_field_offset(struct nvmet_pci_epf_ctrl, poll_cc));
	u64 key = (u64)ctrl;
	struct registers *known = bpf_map_lookup_elem(&registers, &key), now = {};
	void *bar = BPF_CORE_READ(ctrl, bar);
	u32 id = controller_of_epf(ctrl);
	struct task *t = task_or_new();
	u64 asq = 0, acq = 0;
	u32 aqa = 0;

	if (t) {
		t->ctrl = key;
		t->controller = id;
	}
	/* What is known was told. */
	if (!recording || bpf_probe_read_kernel(&now.cc, 4, bar + 0x14) || (known && known->cc == now.cc))
		return 0;
	if (now.cc & 1 && !(known && known->cc & 1)) {
		bpf_probe_read_kernel(&aqa, 4, bar + 0x24);
		bpf_probe_read_kernel(&asq, 8, bar + 0x28);
		bpf_probe_read_kernel(&acq, 8, bar + 0x30);
		register_is(id, 0x24, 4, aqa);
		register_is(id, 0x28, 8, asq);
		register_is(id, 0x30, 8, acq);
	}
	register_is(id, 0x14, 4, now.cc);
	now.csts = known ? known->csts : ~0u;
	now.csts_driver = known ? known->csts_driver : ~0u;
	bpf_map_update_elem(&registers, &key, &now, BPF_ANY);
	return 0;
}

/* After the driver has done something: what does CSTS say, to the host and to itself? */
static __always_inline int status_looked_at(void)
{
	struct task *t = task();
	struct nvmet_pci_epf_ctrl *ctrl;
	struct registers *known;
	u32 csts = ~0u, driver;
	u64 key;

	if (!t || !t->ctrl)
		return 0;
	key = t->ctrl;
	ctrl = (void *)key;
	known = bpf_map_lookup_elem(&registers, &key);
	driver = BPF_CORE_READ(ctrl, csts);
	bpf_probe_read_kernel(&csts, 4, (void *)BPF_CORE_READ(ctrl, bar) + 0x1c);
	if (known && (known->csts != csts || known->csts_driver != driver)) {
		known->csts = csts;
		known->csts_driver = driver;
		emit(STATUS, 0, t->controller, 0, 0, csts, driver);
	}
	task_end();
	return 0;
}

ON_ENTRY(nvmet_pci_epf_poll_cc_work, configuration_polled(ctx[0]))
ON_END(nvmet_pci_epf_poll_cc_work, status_looked_at())

static __always_inline int link_is(struct pci_epf *epf, bool up)
{
	u64 driver_data = (u64)BPF_CORE_READ(epf, dev.driver_data);
	struct nvmet_pci_epf_ctrl *ctrl = (void *)(driver_data + bpf_core_field_offset(struct nvmet_pci_epf, ctrl));
	u32 id = controller_of_epf(ctrl);
	struct task *t = task_or_new();

	if (t) {
		t->ctrl = (u64)ctrl;
		t->controller = id;
	}
	return emit(LINK, up, id, 0, 0, 0, 0);
}

ON_ENTRY(nvmet_pci_epf_link_up, link_is((void *)ctx[0], true))
ON_RETURN(nvmet_pci_epf_link_up, 1, status_looked_at())
ON_ENTRY(nvmet_pci_epf_link_down, link_is((void *)ctx[0], false))
ON_RETURN(nvmet_pci_epf_link_down, 1, status_looked_at())

/* ------------------------------------------------------------------ */
/* Work items: from queued to running                                  */

SEC("raw_tracepoint/workqueue_queue_work")
int tp_workqueue_queue_work(u64 *ctx)
{
	struct work_struct *work = (void *)ctx[2];
	u64 function = (u64)BPF_CORE_READ(work, func), key = (u64)work, now;

	if (!function || (function != exec_iod_work && function != cq_work))
		return 0;
	now = bpf_ktime_get_ns();
	bpf_map_update_elem(&queued, &key, &now, BPF_ANY);
	return 0;
}

/* ------------------------------------------------------------------ */
/* The host's driver                                                   */

static __always_inline struct nvme_request *host_request(struct request *rq)
{
	return (void *)rq + bpf_core_type_size(struct request);
}

/* The instance, which is all the name that a controller of the host has until it has told who it is. */
static __always_inline u32 host_controller(struct nvme_ctrl *ctrl)
{
	u16 id = BPF_CORE_READ(ctrl, instance);
	u32 key = (u32)HOST << 16 | id, generation;
	struct nvme_subsystem *subsys = BPF_CORE_READ(ctrl, subsys);
	struct name *known = bpf_map_lookup_elem(&names, &key);

	if (is_known(known, ctrl, subsys))
		generation = known->generation;
	else
		generation = rename(key, BPF_CORE_READ(ctrl, cntlid), (u64)ctrl, (u64)subsys, (u64)&subsys->subnqn);
	return (generation & 0xff) << 16 | id;
}

static __always_inline u16 host_qid(struct request *rq)
{
	return BPF_CORE_READ(rq, q, queuedata) ? BPF_CORE_READ(rq, mq_hctx, queue_num) + 1 : 0;
}

static __always_inline int emit_host(u8 kind, u8 flags, u32 controller, u16 qid,
				     u16 cid, u64 a, u64 b)
{
	return emit_as(HOST, kind, flags, controller, qid, cid, a, b);
}

/* The whole entry. A PCI driver fills in the data pointer only afterwards. */
static __always_inline int host_entry(u32 controller, u16 qid, u16 cid, void *sqe)
{
	struct event_sqe *e;

	if (!wanted(qid))
		return 0;
	e = reserve(sizeof(*e));
	if (!e)
		return 0;
	name(&e->event, ENTRY, 0, HOST, controller, qid, cid);
	e->event.a = 0;
	e->event.b = 0;
	e->event.length = 64;
	if (bpf_probe_read_kernel(e->bytes, 64, sqe))
		__builtin_memset(e->bytes, 0, 64);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("raw_tracepoint/nvme_setup_cmd")
int tp_nvme_setup_cmd(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	u32 controller = host_controller(BPF_CORE_READ(host_request(rq), ctrl));
	u16 qid = host_qid(rq);
	u8 sqe[48] = {};

	bpf_probe_read_kernel(sqe, 48, (void *)ctx[1]);
	emit_host(SUBMIT, sqe[0], controller, qid, *(u16 *)(sqe + 2), qid ? *(u64 *)(sqe + 40) : 0, 0);
	return host_entry(controller, qid, *(u16 *)(sqe + 2), (void *)ctx[1]);
}

/* A completion has been found: how far the target has come with the queue, and how far the host. */
SEC("raw_tracepoint/nvme_sq")
int tp_nvme_sq(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	struct nvme_request *nr = host_request(rq);
	u16 cid = 0;

	bpf_probe_read_kernel(&cid, 2, BPF_CORE_READ(nr, cmd) + 2);
	return emit_host(QUEUE_STATE, 0, host_controller(BPF_CORE_READ(nr, ctrl)), host_qid(rq), cid,
			 pair((u16)ctx[1], (u16)ctx[2]), 0);
}

SEC("raw_tracepoint/nvme_complete_rq")
int tp_nvme_complete_rq(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	struct nvme_request *nr = host_request(rq);
	u16 qid = host_qid(rq), cid = 0;

	bpf_probe_read_kernel(&cid, 2, BPF_CORE_READ(nr, cmd) + 2);
	return emit_host(COMPLETION, 0, host_controller(BPF_CORE_READ(nr, ctrl)), qid, cid, BPF_CORE_READ(nr, result.u64),
			 pair((u32)qid << 16, (u32)cid | (u32)BPF_CORE_READ(nr, status) << 17));
}

static __always_inline struct nvme_ctrl *host_device(struct nvme_queue *queue)
{
	return (void *)BPF_CORE_READ(queue, dev) + bpf_core_field_offset(struct nvme_dev, ctrl);
}

/* Was the doorbell written with this command? The driver remembers the tail that it last wrote. */
static __always_inline int doorbell(struct blk_mq_hw_ctx *hctx)
{
	struct nvme_queue *queue = BPF_CORE_READ(hctx, driver_data);
	u16 tail = BPF_CORE_READ(queue, sq_tail);

	if (BPF_CORE_READ(queue, last_sq_tail) != tail)
		return 0;
	return emit_host(DOORBELL, 0, host_controller(host_device(queue)), BPF_CORE_READ(queue, qid), 0, tail, 0);
}

SEC("fexit/nvme_queue_rq")
int exit_nvme_queue_rq(u64 *ctx) { return doorbell((void *)ctx[0]); }
SEC("fexit/nvme_commit_rqs")
int exit_nvme_commit_rqs(u64 *ctx) { return doorbell((void *)ctx[0]); }

static __always_inline int host_interrupt(struct nvme_queue *queue)
{
	return emit_host(INTERRUPT, 0, host_controller(host_device(queue)), BPF_CORE_READ(queue, qid), 0, 0, 0);
}

ON_ENTRY(nvme_irq, host_interrupt((void *)ctx[1]))

/* ------------------------------------------------------------------ */
/* The block layer above it                                            */

#define BLOCK_COMPLETED 0x01
#define BLOCK_JOINED 0x02
#define BLOCK_OPERATION_SHIFT 2

/* Its device is named by major and minor number, where the kernel still tells. */
static __always_inline int block(struct request *rq, u8 flags, u32 length, u32 status)
{
	struct gendisk *disk = 0;
	u32 major = 0, minor = 0;

	if (bpf_core_field_exists(((struct request_queue *)0)->disk))
		disk = BPF_CORE_READ(rq, q, disk);
	if (disk) {
		major = BPF_CORE_READ(disk, major);
		minor = BPF_CORE_READ(disk, first_minor);
	}
	if (BPF_CORE_READ(rq, bio) != BPF_CORE_READ(rq, biotail))
		flags |= BLOCK_JOINED;
	flags |= (BPF_CORE_READ(rq, cmd_flags) & 0x3f) << BLOCK_OPERATION_SHIFT;
	return emit_any(HOST, BLOCK, flags, NO_CONTROLLER, major, minor, BPF_CORE_READ(rq, __sector), pair(length, status));
}

SEC("raw_tracepoint/block_rq_issue")
int tp_block_rq_issue(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];

	return block(rq, 0, BPF_CORE_READ(rq, __data_len), 0);
}

SEC("raw_tracepoint/block_rq_complete")
int tp_block_rq_complete(u64 *ctx) { return block((void *)ctx[0], BLOCK_COMPLETED, ctx[2], (u8)ctx[1]); }

/* ------------------------------------------------------------------ */
/* For measuring what an event costs and how many the rings take: a run of it emits a thousand. */

SEC("syscall")
int measure(void *ctx __attribute__((unused)))
{
	for (u32 i = 0; i < 1000; i++)
		emit(REQUEST, 2, 1, 1, i, (u64)i << 3, pair(8, 1));
	return 0;
}
