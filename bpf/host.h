/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The host's driver, and the block layer above it. */

static __always_inline struct nvme_request *host_request(struct request *rq)
{
	return (void *)rq + bpf_core_type_size(struct request);
}

/* The instance, which identifies a host's controller until its NQN is known. */
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

static __always_inline int emit_host(u32 controller, struct fields f)
{
	return emit_as(HOST, controller, f);
}

/* The whole entry. A PCI driver fills in the data pointer only afterwards. */
static __always_inline int host_entry(u32 controller, u16 qid, u16 cid, void *sqe)
{
	struct event_sqe *e;

	if (!wanted(qid))
		return 0;
	e = reserve(sizeof(*e));
	if (e)
		submit_entry(e, HOST, controller, entry((struct entry_fields){ .qid = qid, .cid = cid }), sqe);
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
	emit_host(controller, submit((struct submit_fields){
		.opcode = sqe[0],
		.qid = qid,
		.cid = *(u16 *)(sqe + 2),
		.slba = qid ? *(u64 *)(sqe + 40) : 0,
	}));
	return host_entry(controller, qid, *(u16 *)(sqe + 2), (void *)ctx[1]);
}

/* A completion was found: the positions of target and host in the queue. */
SEC("raw_tracepoint/nvme_sq")
int tp_nvme_sq(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	struct nvme_request *nr = host_request(rq);
	u16 cid = 0;

	bpf_probe_read_kernel(&cid, 2, BPF_CORE_READ(nr, cmd) + 2);
	return emit_host(host_controller(BPF_CORE_READ(nr, ctrl)), queue_state((struct queue_state_fields){
		.qid = host_qid(rq), .cid = cid, .head = (u16)ctx[1], .tail = (u16)ctx[2] }));
}

SEC("raw_tracepoint/nvme_complete_rq")
int tp_nvme_complete_rq(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	struct nvme_request *nr = host_request(rq);
	u16 qid = host_qid(rq), cid = 0;
	u64 result;

	bpf_probe_read_kernel(&cid, 2, BPF_CORE_READ(nr, cmd) + 2);
	result = BPF_CORE_READ(nr, result.u64);
	return emit_host(host_controller(BPF_CORE_READ(nr, ctrl)), completion((struct completion_fields){
		.cqid = qid,
		.cid = cid,
		.dw0 = result,
		.dw1 = result >> 32,
		.dw2 = (u32)qid << 16,
		.dw3 = (u32)cid | (u32)BPF_CORE_READ(nr, status) << 17,
	}));
}

static __always_inline struct nvme_ctrl *host_device(struct nvme_queue *queue)
{
	return (void *)BPF_CORE_READ(queue, dev) + bpf_core_field_offset(struct nvme_dev, ctrl);
}

/* Whether the doorbell was written with this command. The driver keeps the tail that it last wrote. */
static __always_inline int doorbell_written(struct blk_mq_hw_ctx *hctx)
{
	struct nvme_queue *queue = BPF_CORE_READ(hctx, driver_data);
	u16 tail = BPF_CORE_READ(queue, sq_tail);

	if (BPF_CORE_READ(queue, last_sq_tail) != tail)
		return 0;
	return emit_host(host_controller(host_device(queue)), doorbell((struct doorbell_fields){
		.qid = BPF_CORE_READ(queue, qid), .value = tail }));
}

SEC("fexit/nvme_queue_rq")
int exit_nvme_queue_rq(u64 *ctx) { return doorbell_written((void *)ctx[0]); }
SEC("fexit/nvme_commit_rqs")
int exit_nvme_commit_rqs(u64 *ctx) { return doorbell_written((void *)ctx[0]); }

static __always_inline int host_interrupt(struct nvme_queue *queue)
{
	return emit_host(host_controller(host_device(queue)), interrupt((struct interrupt_fields){
		.cqid = BPF_CORE_READ(queue, qid) }));
}

ON_ENTRY(nvme_irq, host_interrupt((void *)ctx[1]))

/* ------------------------------------------------------------------ */
/* The block layer above it                                            */

#define BLOCK_OPERATION_SHIFT 2

/* Its device's major and minor number, if the kernel still provides them. */
static __always_inline int block_request(struct request *rq, u8 flags, u32 length, u32 error)
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
	return emit_any(HOST, NO_CONTROLLER, block((struct block_fields){
		.flags = flags,
		.sector = BPF_CORE_READ(rq, __sector),
		.length = length,
		.error = error,
		.major = major,
		.minor = minor,
	}));
}

SEC("raw_tracepoint/block_rq_issue")
int tp_block_rq_issue(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];

	return block_request(rq, 0, BPF_CORE_READ(rq, __data_len), 0);
}

SEC("raw_tracepoint/block_rq_complete")
int tp_block_rq_complete(u64 *ctx) { return block_request((void *)ctx[0], BLOCK_COMPLETED, ctx[2], (u8)ctx[1]); }
