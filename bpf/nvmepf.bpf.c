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
#include "emit.h"
#include "probe.h"
#include "nvmet.h"
#include "pci_epf.h"
#include "host.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* For measuring what an event costs and how many the rings take: a run of it emits a thousand. */

SEC("syscall")
int measure(void *ctx __attribute__((unused)))
{
	for (u32 i = 0; i < 1000; i++)
		emit(1, request((struct request_fields){
			.opcode = 2, .qid = 1, .cid = i, .slba = (u64)i << 3, .blocks = 8, .nsid = 1 }));
	return 0;
}
