/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* nvmet, any transport. */

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
	return emit(controller_of(BPF_CORE_READ(req, sq, ctrl)), request((struct request_fields){
		.opcode = sqe[0],
		.qid = qid,
		.cid = *(u16 *)(sqe + 2),
		.slba = io ? *(u64 *)(sqe + 40) : 0,
		.blocks = io && has_blocks(sqe[0]) ? (u32)*(u16 *)(sqe + 48) + 1 : 0,
		.nsid = *(u32 *)(sqe + 4),
	}));
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
	return emit(controller_of(BPF_CORE_READ(req, sq, ctrl)), execute_end((struct execute_end_fields){
		.qid = qid, .cid = cid, .status = status >> 1, .bytes = BPF_CORE_READ(req, transfer_len) }));
}

SEC("raw_tracepoint/nvmet_async_event")
int tp_nvmet_async_event(u64 *ctx)
{
	return emit(controller_of((void *)ctx[0]), asynchronous_event((struct asynchronous_event_fields){
		.result = (u32)ctx[1] }));
}

static __always_inline int executes(struct nvmet_req *req)
{
	u16 qid = BPF_CORE_READ(req, sq, qid);
	u8 sqe[56] = {};

	if (!wanted(qid))
		return 0;
	bpf_probe_read_kernel(sqe, 52, BPF_CORE_READ(req, cmd));
	return emit(controller_of(BPF_CORE_READ(req, sq, ctrl)), execute_begin((struct execute_begin_fields){
		.opcode = sqe[0],
		.qid = qid,
		.cid = *(u16 *)(sqe + 2),
		.slba = *(u64 *)(sqe + 40),
		.blocks = (u32)*(u16 *)(sqe + 48) + 1,
		.nsid = *(u32 *)(sqe + 4),
	}));
}

ON_ENTRY(nvmet_bdev_execute_rw, executes((void *)ctx[0]))
ON_ENTRY(nvmet_file_execute_rw, executes((void *)ctx[0]))
