// SPDX-License-Identifier: Apache-2.0
// A few operations of liburing, whose own inline functions and macros Swift cannot import.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct nvmepf_uring;

// Room for `entries` submissions at once and `completions` waiting. On failure NULL, and a positive errno in *error.
struct nvmepf_uring *nvmepf_uring_create(uint32_t entries, uint32_t completions, int32_t *error);
void nvmepf_uring_destroy(struct nvmepf_uring *ring);

// Whether passthrough to NVMe devices is possible (Linux 5.19 or later).
bool nvmepf_uring_can_pass_through(const struct nvmepf_uring *ring);

// Operations from here on block, if they must, on a kernel thread and not in nvmepf_uring_submit.
void nvmepf_uring_set_async(struct nvmepf_uring *ring, bool is_async);

// Each of these puts one operation into the ring, and submits the ring first if it is full. `flags` of read and write
// are those of preadv2, `mode` that of fallocate.
void nvmepf_uring_read(struct nvmepf_uring *ring, int32_t fd, void *buffer, uint32_t count, uint64_t offset,
                       uint64_t tag);
void nvmepf_uring_write(struct nvmepf_uring *ring, int32_t fd, const void *buffer, uint32_t count, uint64_t offset,
                        int32_t flags, uint64_t tag);
// `count` bytes from `offset`; everything if both are 0.
void nvmepf_uring_sync(struct nvmepf_uring *ring, int32_t fd, uint64_t offset, uint32_t count, uint64_t tag);
void nvmepf_uring_allocate(struct nvmepf_uring *ring, int32_t fd, int32_t mode, uint64_t offset, uint64_t count,
                           uint64_t tag);
// An NVMe I/O command; the `result` of its completion is the status field, or a negative errno.
void nvmepf_uring_command(struct nvmepf_uring *ring, int32_t fd, uint8_t opcode, uint32_t nsid, void *buffer,
                          uint32_t count, const uint32_t cdw10_to_15[6], uint64_t tag);

// Cancel the operation with that tag. True: it had not started and never will; it completes with -ECANCELED.
bool nvmepf_uring_cancel(struct nvmepf_uring *ring, uint64_t tag);

// Submit the operations in the ring to the kernel. False if it had no room for all of them.
bool nvmepf_uring_submit(struct nvmepf_uring *ring);
// The next completion. False if there is none.
bool nvmepf_uring_complete(struct nvmepf_uring *ring, uint64_t *tag, int32_t *result);
// Wait for a completion.
void nvmepf_uring_wait(struct nvmepf_uring *ring);

// The namespace identifier of an NVMe character or block device, or a negative errno.
int32_t nvmepf_nvme_namespace(int32_t fd);
// Identify, for the NVM command set. Returns 0, or a negative errno, or a positive NVMe status.
int32_t nvmepf_nvme_identify(int32_t fd, uint32_t nsid, uint8_t cns, uint8_t data[4096]);

// Modes of nvmepf_uring_allocate: zero the blocks and deallocate them if possible; zero the blocks and keep them.
int32_t nvmepf_deallocate_mode(void);
int32_t nvmepf_zero_mode(void);
// Write flags: data is on the medium when the write completes.
int32_t nvmepf_write_through(void);
// Open flag: bypass the page cache.
int32_t nvmepf_open_direct(void);
// Bytes of a block device, and its logical block size. 0, or a negative errno.
int32_t nvmepf_block_device_size(int32_t fd, uint64_t *bytes, uint32_t *block_bytes);
// The sysfs directory of a block or character device.
void nvmepf_device_folder(uint64_t device, bool is_block, char path[64]);

// Signals a foreign eventfd without ever blocking: the kernel does it on behalf of a ring, saturating. A write would
// block if the owner cleared O_NONBLOCK and filled the counter. NULL and a positive errno in *error on failure.
struct nvmepf_signal *nvmepf_signal_create(int32_t *error);
void nvmepf_signal_destroy(struct nvmepf_signal *signal);
// Signal this descriptor from now on; -1 for none. The previous one is no longer signalled when it returns. May be
// called by another thread than the one that raises. Returns 0 or a negative errno.
int32_t nvmepf_signal_attach(struct nvmepf_signal *signal, int32_t fd);
void nvmepf_signal_raise(struct nvmepf_signal *signal);
