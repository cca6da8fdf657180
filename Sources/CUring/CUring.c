// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CUring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/nvme_ioctl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

struct nvmepf_uring {
  struct io_uring ring;
  bool is_big;
  bool is_async;
};

struct nvmepf_uring *nvmepf_uring_create(uint32_t entries, uint32_t completions, int32_t *error) {
  struct nvmepf_uring *all = calloc(1, sizeof(*all));
  struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SQE128 | IORING_SETUP_CQE32,
                                   .cq_entries = completions};

  if (!all) {
    *error = ENOMEM;
    return NULL;
  }
  int result = io_uring_queue_init_params(entries, &all->ring, &params);
  all->is_big = result == 0;
  if (result == -EINVAL) {
    params = (struct io_uring_params){.flags = IORING_SETUP_CQSIZE, .cq_entries = completions};
    result = io_uring_queue_init_params(entries, &all->ring, &params);
  }
  if (result) {
    *error = -result;
    free(all);
    return NULL;
  }
  return all;
}

void nvmepf_uring_destroy(struct nvmepf_uring *all) {
  io_uring_queue_exit(&all->ring);
  free(all);
}

bool nvmepf_uring_can_pass_through(const struct nvmepf_uring *all) { return all->is_big; }

void nvmepf_uring_set_async(struct nvmepf_uring *all, bool is_async) { all->is_async = is_async; }

static struct io_uring_sqe *next_entry(struct nvmepf_uring *all) {
  struct io_uring_sqe *entry;

  // The kernel consumes every submitted entry, so there is room afterwards.
  while (!(entry = io_uring_get_sqe(&all->ring)))
    io_uring_submit(&all->ring);
  return entry;
}

// Sets the common fields of every operation; call it last.
static void tell(const struct nvmepf_uring *all, struct io_uring_sqe *entry, uint64_t tag) {
  entry->user_data = tag;
  if (all->is_async)
    entry->flags |= IOSQE_ASYNC;
}

void nvmepf_uring_read(struct nvmepf_uring *all, int32_t fd, void *buffer, uint32_t count, uint64_t offset,
                       uint64_t tag) {
  struct io_uring_sqe *entry = next_entry(all);
  io_uring_prep_read(entry, fd, buffer, count, offset);
  tell(all, entry, tag);
}

void nvmepf_uring_write(struct nvmepf_uring *all, int32_t fd, const void *buffer, uint32_t count, uint64_t offset,
                        int32_t flags, uint64_t tag) {
  struct io_uring_sqe *entry = next_entry(all);
  io_uring_prep_write(entry, fd, buffer, count, offset);
  entry->rw_flags = flags;
  tell(all, entry, tag);
}

void nvmepf_uring_sync(struct nvmepf_uring *all, int32_t fd, uint64_t offset, uint32_t count, uint64_t tag) {
  struct io_uring_sqe *entry = next_entry(all);
  io_uring_prep_fsync(entry, fd, IORING_FSYNC_DATASYNC);
  entry->off = offset;
  entry->len = count;
  tell(all, entry, tag);
}

void nvmepf_uring_allocate(struct nvmepf_uring *all, int32_t fd, int32_t mode, uint64_t offset, uint64_t count,
                           uint64_t tag) {
  struct io_uring_sqe *entry = next_entry(all);
  io_uring_prep_fallocate(entry, fd, mode, (off_t)offset, (off_t)count);
  tell(all, entry, tag);
}

void nvmepf_uring_command(struct nvmepf_uring *all, int32_t fd, uint8_t opcode, uint32_t nsid, void *buffer,
                          uint32_t count, const uint32_t cdw10_to_15[6], uint64_t tag) {
  struct io_uring_sqe *entry = next_entry(all);
  struct nvme_uring_cmd command = {
      .opcode = opcode,
      .nsid = nsid,
      .addr = (uintptr_t)buffer,
      .data_len = count,
      .cdw10 = cdw10_to_15[0],
      .cdw11 = cdw10_to_15[1],
      .cdw12 = cdw10_to_15[2],
      .cdw13 = cdw10_to_15[3],
      .cdw14 = cdw10_to_15[4],
      .cdw15 = cdw10_to_15[5],
  };

  io_uring_prep_rw(IORING_OP_URING_CMD, entry, fd, NULL, 0, 0);
  entry->cmd_op = NVME_URING_CMD_IO;
  memcpy(entry->cmd, &command, sizeof(command));
  tell(all, entry, tag);
}

// No caller's operation has this tag.
static const uint64_t cancel_tag = UINT64_MAX;

bool nvmepf_uring_cancel(struct nvmepf_uring *all, uint64_t tag) {
  struct io_uring_sqe *entry = next_entry(all);
  struct io_uring_cqe *completion;
  unsigned head;
  int32_t result = -EAGAIN;

  io_uring_prep_cancel64(entry, tag, 0);
  entry->user_data = cancel_tag;
  io_uring_submit(&all->ring);
  // A cancellation that the kernel has no room for now would run later, when the tag may belong to another operation.
  if (io_uring_sq_ready(&all->ring)) {
    entry->opcode = IORING_OP_NOP;
    return false;
  }
  // It completes before io_uring_submit returns; the newest completion with its tag is the result.
  io_uring_for_each_cqe(&all->ring, head, completion) {
    if (completion->user_data == cancel_tag)
      result = completion->res;
  }
  return result == 0;
}

bool nvmepf_uring_submit(struct nvmepf_uring *all) {
  io_uring_submit(&all->ring);
  return io_uring_sq_ready(&all->ring) == 0;
}

bool nvmepf_uring_complete(struct nvmepf_uring *all, uint64_t *tag, int32_t *result) {
  struct io_uring_cqe *entry = NULL;

  do {
    if (io_uring_peek_cqe(&all->ring, &entry) || !entry)
      return false;
    *tag = entry->user_data;
    *result = entry->res;
    io_uring_cqe_seen(&all->ring, entry);
  } while (*tag == cancel_tag);
  return true;
}

void nvmepf_uring_wait(struct nvmepf_uring *all) {
  struct io_uring_cqe *entry = NULL;
  io_uring_wait_cqe(&all->ring, &entry);
}

int32_t nvmepf_nvme_namespace(int32_t fd) {
  const int id = ioctl(fd, NVME_IOCTL_ID);
  return id < 0 ? -errno : id;
}

int32_t nvmepf_nvme_identify(int32_t fd, uint32_t nsid, uint8_t cns, uint8_t data[4096]) {
  struct nvme_admin_cmd command = {
      .opcode = 0x06,
      .nsid = nsid,
      .addr = (uintptr_t)data,
      .data_len = 4096,
      .cdw10 = cns,
  };
  const int result = ioctl(fd, NVME_IOCTL_ADMIN_CMD, &command);
  return result < 0 ? -errno : result;
}

int32_t nvmepf_deallocate_mode(void) { return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE; }
int32_t nvmepf_zero_mode(void) { return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE; }
int32_t nvmepf_write_through(void) { return RWF_DSYNC; }

int32_t nvmepf_open_direct(void) { return O_DIRECT; }

int32_t nvmepf_block_device_size(int32_t fd, uint64_t *bytes, uint32_t *block_bytes) {
  int size = 0;

  if (ioctl(fd, BLKGETSIZE64, bytes) || ioctl(fd, BLKSSZGET, &size))
    return -errno;
  *block_bytes = (uint32_t)size;
  return 0;
}

void nvmepf_device_folder(uint64_t device, bool is_block, char path[64]) {
  snprintf(path, 64, "/sys/dev/%s/%u:%u", is_block ? "block" : "char", major(device), minor(device));
}

struct nvmepf_signal {
  struct io_uring ring;
  // If no io_uring is available, write to the descriptor.
  bool has_ring;
  bool is_registered;
  _Atomic int32_t fd;
};

struct nvmepf_signal *nvmepf_signal_create(int32_t *error) {
  struct nvmepf_signal *signal = calloc(1, sizeof(*signal));

  if (!signal) {
    *error = ENOMEM;
    return NULL;
  }
  signal->fd = -1;
  signal->has_ring = io_uring_queue_init(2, &signal->ring, 0) == 0;
  return signal;
}

void nvmepf_signal_destroy(struct nvmepf_signal *signal) {
  if (signal->has_ring)
    io_uring_queue_exit(&signal->ring);
  free(signal);
}

int32_t nvmepf_signal_attach(struct nvmepf_signal *signal, int32_t fd) {
  signal->fd = -1;
  if (signal->is_registered)
    io_uring_unregister_eventfd(&signal->ring);
  signal->is_registered = false;
  if (fd >= 0 && signal->has_ring) {
    const int result = io_uring_register_eventfd(&signal->ring, fd);
    if (result)
      return result;
    signal->is_registered = true;
  }
  signal->fd = fd;
  return 0;
}

// A no-op completes immediately, and its completion signals the descriptor.
static void raise_by_ring(struct io_uring *ring) {
  struct io_uring_sqe *entry = io_uring_get_sqe(ring);
  struct io_uring_cqe *completion = NULL;

  if (entry)
    io_uring_prep_nop(entry);
  io_uring_submit(ring);
  while (io_uring_peek_cqe(ring, &completion) == 0 && completion)
    io_uring_cqe_seen(ring, completion);
}

void nvmepf_signal_raise(struct nvmepf_signal *signal) {
  const int32_t fd = signal->fd;

  if (fd < 0)
    return;
  if (signal->has_ring)
    return raise_by_ring(&signal->ring);
  // A full counter is signalled already. If it is filled in between, the write blocks until it is interrupted.
  struct pollfd room = {.fd = fd, .events = POLLOUT};
  const uint64_t one = 1;
  if (poll(&room, 1, 0) == 1 && write(fd, &one, sizeof(one)) < 0)
    return;
}
