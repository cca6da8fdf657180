/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* nvmet-pci-epf, and the parts of the PCI endpoint core that it uses. */

/* ------------------------------------------------------------------ */
/* Commands                                                            */

static __always_inline int work_begins(u64 item)
{
	u64 address = item - bpf_core_field_offset(struct nvmet_pci_epf_iod, work);
	struct nvmet_pci_epf_iod *iod = (void *)address;
	struct identity id = identify(iod);
	struct task *t = task_or_new();

	if (!t)
		return 0;
	t->iod = address;
	t->qid = id.qid;
	t->cid = id.cid;
	t->controller = id.controller;
	return emit(id.controller, work((struct work_fields){
		.work = WORK_COMMAND, .qid = id.qid, .cid = id.cid, .queued = queued_span(item) }));
}

static __always_inline int work_ends(void)
{
	struct task *t = task();

	if (!t || !t->iod)
		return 0;
	emit(t->controller, work_end((struct work_end_fields){ .work = WORK_END_COMMAND, .qid = t->qid, .cid = t->cid }));
	task_end();
	return 0;
}

ON_ENTRY(nvmet_pci_epf_exec_iod_work, work_begins(ctx[0]))
ON_END(nvmet_pci_epf_exec_iod_work, work_ends())

/*
 * Data uses the descriptor's own segments, a list uses one on the stack. If the two cannot be distinguished, nothing
 * counts as a list, since the content of lists is recorded.
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
		/* A fetch: the queue is known before the entry arrives. */
		id = identify((void *)(t->buf - bpf_core_field_offset(struct nvmet_pci_epf_iod, cmd)));
		t->qid = id.qid;
		t->cid = 0;
		t->controller = id.controller;
	}
	t->begin = bpf_ktime_get_ns();
	return 0;
}

/* The transfer fetched a submission queue entry into its descriptor, or belongs to an unknown activity of a worker. */
static __always_inline int fetched(struct task *t, bool failed, bool window)
{
	u64 address = t->buf - bpf_core_field_offset(struct nvmet_pci_epf_iod, cmd);
	struct nvmet_pci_epf_iod *iod = (void *)address;
	struct identity id = identify(iod);
	u64 base = BPF_CORE_READ(iod, sq, pci_addr), size = BPF_CORE_READ(iod, sq, qes);
	u64 offset = t->address - base;
	struct event_sqe *e;

	if (!size || t->size != size || offset >= size * BPF_CORE_READ(iod, sq, depth))
		return 0;
	t->failed = failed ? address : 0;
	if (!wanted(id.qid))
		return 0;
	e = reserve(sizeof(*e));
	if (!e)
		return 0;
	submit_entry(e, TARGET, id.controller, fetch((struct fetch_fields){
		.flags = (failed ? FETCH_FAILED : 0) | (window ? FETCH_WINDOW : 0),
		.qid = id.qid,
		.cid = id.cid,
		.slot = offset / size,
		.span = span(e->event.time, t->begin),
	}), (void *)t->buf);
	return 0;
}

/* The transfer fetched a PRP list or an SGL segment. */
static __always_inline int list_read(struct task *t, bool failed, bool window)
{
	u8 flags = READ_BYTES | (failed ? READ_FAILED : 0) | (window ? READ_WINDOW : 0);
	struct event_list *e;
	u32 length = t->size;

	if (!wanted(t->qid))
		return 0;
	e = reserve(sizeof(*e));
	if (!e)
		return 0;
	if (length > LIST_MAX) {
		length = LIST_MAX;
		flags |= READ_CUT;
	}
	if (bpf_probe_read_kernel(e->bytes, length, (void *)t->buf))
		length = 0;
	fill(&e->event, TARGET, t->controller, read((struct read_fields){
		.flags = flags,
		.qid = t->qid,
		.cid = t->cid,
		.address = t->address,
		.length = length,
		.span = span(e->event.time, t->begin),
	}));
	e->event.length = length;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline void segment_moved(struct task *t, bool failed, bool window)
{
	/* The device is the host. */
	u8 from_host = t->direction == DMA_FROM_DEVICE ? SEGMENT_FROM_HOST : 0;

	emit(t->controller, segment((struct segment_fields){
		.flags = from_host | (failed ? SEGMENT_FAILED : 0) | (window ? SEGMENT_WINDOW : 0),
		.qid = t->qid,
		.cid = t->cid,
		.address = t->address,
		.length = t->size,
		.span = span(bpf_ktime_get_ns(), t->begin),
	}));
}

static __always_inline int transfer_ends(u64 result, bool window)
{
	struct task *t = task();
	bool failed = (int)result != 0;

	if (!t || !t->begin)
		return 0;
	if (!t->iod)
		fetched(t, failed, window);
	else if (t->is_list)
		list_read(t, failed, window);
	else
		segment_moved(t, failed, window);
	t->begin = 0;
	return 0;
}

ON_ENTRY(nvmet_pci_epf_dma_transfer, transfer_begins((void *)ctx[1], ctx[2]))
ON_RETURN(nvmet_pci_epf_dma_transfer, 3, transfer_ends(result, false))
ON_ENTRY(nvmet_pci_epf_mmio_transfer, transfer_begins((void *)ctx[1], ctx[2]))
ON_RETURN(nvmet_pci_epf_mmio_transfer, 3, transfer_ends(result, true))

static __always_inline int given_back(u64 req)
{
	struct identity id = identify((void *)(req - bpf_core_field_offset(struct nvmet_pci_epf_iod, req)));

	return emit(id.controller, response((struct response_fields){ .qid = id.qid, .cid = id.cid }));
}

static __always_inline int completion_waits(struct nvmet_pci_epf_iod *iod)
{
	struct identity id = identify(iod);

	return emit(id.controller, completion_queued((struct completion_queued_fields){ .qid = id.qid, .cid = id.cid }));
}

ON_ENTRY(nvmet_pci_epf_queue_response, given_back(ctx[0]))
ON_ENTRY(nvmet_pci_epf_complete_iod, completion_waits((void *)ctx[0]))

/* ------------------------------------------------------------------ */
/* Completion                                                          */

static __always_inline int completion_work_begins(u64 item)
{
	u64 address = item - bpf_core_field_offset(struct nvmet_pci_epf_queue, work);
	struct nvmet_pci_epf_queue *cq = (void *)address;
	struct task *t = task_or_new();

	if (!t)
		return 0;
	t->iod = 0;
	t->cq = address;
	t->qid = BPF_CORE_READ(cq, qid);
	t->controller = controller_of_epf(BPF_CORE_READ(cq, ctrl));
	return emit(t->controller, work((struct work_fields){
		.work = WORK_COMPLETION_QUEUE, .qid = t->qid, .queued = queued_span(item) }));
}

static __always_inline int completion_work_ends(void)
{
	struct task *t = task();

	if (!t || !t->cq)
		return 0;
	emit(t->controller, work_end((struct work_end_fields){ .work = WORK_END_COMPLETION_QUEUE, .qid = t->qid }));
	task_end();
	return 0;
}

ON_ENTRY(nvmet_pci_epf_cq_work, completion_work_begins(ctx[0]))
ON_END(nvmet_pci_epf_cq_work, completion_work_ends())

/* A descriptor freed in cq_work was completed; elsewhere it was dropped. */
static __always_inline int freed(struct nvmet_pci_epf_iod *iod)
{
	struct identity id = identify(iod);
	struct task *t = task();
	u32 cqe[4] = {};

	if (!t || !t->cq)
		return emit(id.controller, dropped((struct dropped_fields){
			.qid = id.qid, .cid = id.cid, .flags = t && t->failed == (u64)iod ? DROPPED_FAILED : 0 }));
	bpf_probe_read_kernel(cqe, 16, (void *)iod + bpf_core_field_offset(struct nvmet_pci_epf_iod, cqe));
	return emit(id.controller, completion((struct completion_fields){
		.cqid = t->qid, .cid = id.cid, .dw0 = cqe[0], .dw1 = cqe[1], .dw2 = cqe[2], .dw3 = cqe[3] }));
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
	return emit(controller_of_epf(ctrl), interrupt_request((struct interrupt_request_fields){
		.force = force, .cqid = qid }));
}

ON_ENTRY(nvmet_pci_epf_raise_irq, interrupt_asked((void *)ctx[0], (void *)ctx[1], ctx[2]))

/* ------------------------------------------------------------------ */
/* The PCI endpoint core                                               */

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
	return emit(t->controller, interrupt((struct interrupt_fields){
		.flags = (int)result ? INTERRUPT_FAILED : 0,
		.cqid = t->irq_cqid,
		/* Messages are numbered from 1; an INTx has number 0. */
		.vector = t->irq_number ? t->irq_number - 1 : 0,
		.type = t->irq_type,
	}));
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
	emit(t->controller, window((struct window_fields){
		.flags = (unmaps ? WINDOW_UNMAPPED : 0) | ((int)result ? WINDOW_FAILED : 0) |
			 (t->cq || t->in_queue ? WINDOW_COMPLETION_QUEUE : 0),
		.qid = t->in_queue ? t->queue_id : t->qid,
		.cid = t->in_queue ? 0 : t->cid,
		.address = t->window_address,
		.length = t->window_size,
		.span = span(bpf_ktime_get_ns(), t->window_begin),
	}));
	t->window_begin = 0;
	return 0;
}

ON_ENTRY(pci_epc_mem_map, window_begins(ctx[3], ctx[4]))
ON_RETURN(pci_epc_mem_map, 6, window_ends(result, false))
ON_ENTRY(pci_epc_mem_unmap, window_begins(0, 0))
ON_END(pci_epc_mem_unmap, window_ends(0, true))

/* ------------------------------------------------------------------ */
/* Queues, registers, link                                             */

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
	return emit(t->controller, queue((struct queue_fields){
		.flags = flags,
		.qid = t->queue_id,
		.other = t->queue_other,
		.address = t->queue_address,
		.entries = (u32)t->queue_size + 1,
		.status = (u16)result,
	}));
}

ON_ENTRY(nvmet_pci_epf_create_cq, queue_begins(ctx[0], ctx[1], ctx[3], ctx[4], ctx[5], true))
ON_RETURN(nvmet_pci_epf_create_cq, 6, queue_ends(result, QUEUE_COMPLETION_QUEUE))
ON_ENTRY(nvmet_pci_epf_delete_cq, queue_begins(ctx[0], ctx[1], 0xffff, 0, 0, true))
ON_RETURN(nvmet_pci_epf_delete_cq, 2, queue_ends(result, QUEUE_COMPLETION_QUEUE | QUEUE_DELETED))
ON_ENTRY(nvmet_pci_epf_create_sq, queue_begins(ctx[0], ctx[1], ctx[4], ctx[5], ctx[2], false))
ON_RETURN(nvmet_pci_epf_create_sq, 6, queue_ends(result, 0))
/* Without the completion queue, which has the same number. */
ON_ENTRY_AS(nvmet_pci_epf_create_sq_5, nvmet_pci_epf_create_sq, queue_begins(ctx[0], ctx[1], ctx[3], ctx[4], ctx[1], false))
ON_RETURN_AS(nvmet_pci_epf_create_sq_5, nvmet_pci_epf_create_sq, 5, queue_ends(result, 0))
ON_ENTRY(nvmet_pci_epf_delete_sq, queue_begins(ctx[0], ctx[1], 0xffff, 0, 0, false))
ON_RETURN(nvmet_pci_epf_delete_sq, 2, queue_ends(result, QUEUE_DELETED))

static __always_inline void register_is(u32 controller, u32 offset, u8 width, u64 value)
{
	emit(controller, register_write((struct register_write_fields){
		.width = width, .offset = offset, .value = value }));
}

/* Before the driver polls CC: whether the host has changed it. */
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
	/* The current value was already emitted. */
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

/* After an action of the driver: CSTS as the host reads it and as the driver will write it. */
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
		emit(t->controller, status((struct status_fields){ .csts = csts, .driver = driver }));
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
	return emit(id, link((struct link_fields){ .up = up ? LINK_UP : LINK_DOWN }));
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
