// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Records the actions of the kernel's NVMe target and host on commands as events
 * of nvmepf's traces: one ring buffer per CPU, each event self-contained.
 *
 * Each probe exists for fentry/fexit and for kprobe/kretprobe; the loader
 * (Sources/Probe) uses what the kernel supports, if anything. Probe bodies
 * trust only their arguments: they read kernel memory with
 * bpf_probe_read_kernel(), which fails on invalid addresses.
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

/* Measures the cost of an event and the capacity of the rings: each run emits a thousand events. */

SEC("syscall")
int measure(void *ctx __attribute__((unused)))
{
	for (u32 i = 0; i < 1000; i++)
		emit(1, request((struct request_fields){
			.opcode = 2, .qid = 1, .cid = i, .slba = (u64)i << 3, .blocks = 8, .nsid = 1 }));
	return 0;
}
