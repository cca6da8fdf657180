/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel types that the probes read, each with only the fields that
 * they read. Offsets are the running kernel's: libbpf relocates every
 * access by BTF (CO-RE), so neither order nor completeness matters here.
 */
#ifndef NVMEPF_KERNEL_TYPES_H
#define NVMEPF_KERNEL_TYPES_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

typedef _Bool bool;
enum { false, true };

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_ARRAY_OF_MAPS 12
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_ANY 0
#define BPF_NOEXIST 1
#define BPF_RB_NO_WAKEUP 1

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* Arguments of a kprobe, where fentry is unavailable. */
struct pt_regs___x86 {
	unsigned long di, si, dx, cx, r8, r9, ax;
};

struct pt_regs___arm64 {
	u64 regs[31];
};

struct work_struct {
	void *func;
};

struct delayed_work {
	struct work_struct work;
};

struct device {
	void *driver_data;
};

/* drivers/nvme/target/nvmet.h */
struct nvmet_subsys {
	char *subsysnqn;
};

struct nvmet_ctrl {
	struct nvmet_subsys *subsys;
	u16 cntlid;
};

struct nvmet_sq {
	struct nvmet_ctrl *ctrl;
	u16 qid;
};

struct nvmet_req {
	void *cmd;
	void *cqe;
	struct nvmet_sq *sq;
	unsigned long transfer_len;
};

/* drivers/nvme/target/pci-epf.c */
struct nvmet_pci_epf_ctrl {
	struct nvmet_ctrl *tctrl;
	void *bar;
	u32 cc;
	u32 csts;
	struct delayed_work poll_cc;
	struct delayed_work poll_sqs;
};

struct nvmet_pci_epf_queue {
	struct nvmet_pci_epf_ctrl *ctrl;
	u64 pci_addr;
	u16 qid;
	u16 depth;
	unsigned long qes;
	struct delayed_work work;
};

struct nvmet_pci_epf_segment {
	void *buf;
	u64 pci_addr;
	u32 length;
};

/* Wire formats, which are read as bytes. */
struct nvme_command {
	char bytes[64];
};

struct nvme_completion {
	char bytes[16];
};

struct nvmet_pci_epf_iod {
	struct nvmet_req req;
	struct nvme_command cmd;
	struct nvme_completion cqe;
	struct nvmet_pci_epf_ctrl *ctrl;
	struct nvmet_pci_epf_queue *sq;
	unsigned int nr_data_segs;
	struct nvmet_pci_epf_segment *data_segs;
	struct work_struct work;
};

struct nvmet_pci_epf {
	struct nvmet_pci_epf_ctrl ctrl;
};

/* include/linux/pci-epf.h */
struct pci_epf {
	struct device dev;
};

/* include/linux/blk-mq.h, blkdev.h, drivers/nvme/host/nvme.h and pci.c */
struct gendisk {
	int major;
	int first_minor;
};

struct request_queue {
	struct gendisk *disk;
	void *queuedata;
};

struct blk_mq_hw_ctx {
	void *driver_data;
	unsigned int queue_num;
};

struct blk_mq_queue_data {
	struct request *rq;
	_Bool last;
};

struct request {
	struct request_queue *q;
	struct blk_mq_hw_ctx *mq_hctx;
	unsigned int cmd_flags;
	u64 __sector;
	unsigned int __data_len;
	void *bio;
	void *biotail;
};

struct nvme_subsystem {
	char subnqn[223];
};

struct nvme_ctrl {
	int instance;
	u16 cntlid;
	struct nvme_subsystem *subsys;
};

union nvme_result {
	u64 u64;
};

struct nvme_request {
	void *cmd;
	union nvme_result result;
	u16 status;
	struct nvme_ctrl *ctrl;
};

struct nvme_dev {
	struct nvme_ctrl ctrl;
};

struct nvme_queue {
	struct nvme_dev *dev;
	u16 sq_tail;
	u16 last_sq_tail;
	u16 cq_head;
	u16 qid;
};

#pragma clang attribute pop

#endif
