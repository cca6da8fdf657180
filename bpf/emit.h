/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Emits events, and keeps state between probes. events.h, generated from the event table, declares the kinds. */
#include "events.h"

/* Set before loading. */
const volatile u32 only_qid = ~0u;
/* Work functions, as in work_struct.func; 0 if unknown. */
const volatile u64 exec_iod_work = 0;
const volatile u64 cq_work = 0;

/* Set when every probe is attached and the recording has begun: earlier events would be incomplete. */
volatile u32 recording;

enum role { TARGET = 0, HOST = 1 };

/* Values of the kernel's enums, fixed by its ABI. */
#define DMA_TO_DEVICE 1
#define DMA_FROM_DEVICE 2

/* A controller in the programs: its identifier, and in bits 23:16 its generation. */
#define NO_CONTROLLER 0xffff
#define LIST_MAX 4096

/* As Sources/Events/ProbeRecord.swift reads it. */
struct event {
	u64 time;	/* CLOCK_MONOTONIC, ns */
	u64 lost;	/* events that this CPU has lost so far */
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

#define AT(field, offset) _Static_assert(__builtin_offsetof(struct event, field) == offset, #field)
AT(a, 16);
AT(b, 24);
AT(qid, 32);
AT(cid, 34);
AT(controller, 36);
AT(kind, 38);
AT(flags, 39);
AT(length, 40);
AT(role, 44);
AT(generation, 45);
_Static_assert(sizeof(struct event) == 48, "ProbeRecord.size");

/* A submission queue entry follows. */
struct event_sqe {
	struct event event;
	u8 bytes[FETCH_TAIL_BYTES];
};
_Static_assert(FETCH_TAIL_BYTES == 64 && ENTRY_TAIL_BYTES == 64, "a submission queue entry has 64 bytes");

struct event_list {
	struct event event;
	u8 bytes[LIST_MAX];
};

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

/* By CPU; sized and filled by the loader. */
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

/* The current activity of a driver thread. */
struct task {
	u64 iod;	/* in exec_iod_work */
	u64 cq;		/* in cq_work */
	u64 ctrl;	/* in poll_cc_work */
	u64 failed;	/* the descriptor whose fetch failed */
	u32 controller;
	u16 qid;
	u16 cid;
	/* the transfer, window or queue function that it runs */
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

/* Last register values, by controller: CSTS as the host reads it and as the driver will write it. */
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

/* Names of controllers, by role << 16 | number; numbers are reused. Read by Probes.swift. */
struct name {
	char nqn[224];
	u16 cntlid;
	u8 generation;
	u8 padding[5];
	u64 ctrl;	/* the owner of the name */
	u64 subsys;	/* 0 until known */
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

static __always_inline void fill(struct event *e, u8 role, u32 controller, struct fields f)
{
	e->kind = f.kind;
	e->flags = f.flags;
	e->role = role;
	e->controller = (u16)controller;
	e->generation = (u8)(controller >> 16);
	e->qid = f.qid;
	e->cid = f.cid;
	e->a = f.a;
	e->b = f.b;
}

static __always_inline u32 span(u64 end, u64 begin)
{
	u64 ns = end - begin;

	if (!begin || end < begin)
		return 0;
	return ns > ~0u ? ~0u : (u32)ns;
}

static __always_inline bool wanted(u16 qid)
{
	return only_qid == ~0u || only_qid == qid;
}

/* An event without further bytes, for any queue. */
static __always_inline int emit_any(u8 role, u32 controller, struct fields f)
{
	struct event *e = reserve(sizeof(*e));

	if (!e)
		return 0;
	fill(e, role, controller, f);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline int emit_as(u8 role, u32 controller, struct fields f)
{
	return wanted(f.qid) ? emit_any(role, controller, f) : 0;
}

static __always_inline int emit(u32 controller, struct fields f)
{
	return emit_as(TARGET, controller, f);
}

/* An event with a submission queue entry. */
static __always_inline void submit_entry(struct event_sqe *e, u8 role, u32 controller, struct fields f, void *sqe)
{
	fill(&e->event, role, controller, f);
	e->event.length = sizeof(e->bytes);
	if (bpf_probe_read_kernel(e->bytes, sizeof(e->bytes), sqe))
		__builtin_memset(e->bytes, 0, sizeof(e->bytes));
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}
