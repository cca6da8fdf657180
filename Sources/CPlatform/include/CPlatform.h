// SPDX-License-Identifier: Apache-2.0
// Functions that Swift cannot import or express: the cycle counter, CRC32C instructions, descriptors over a socket.
#ifndef NVMEPF_CPLATFORM_H
#define NVMEPF_CPLATFORM_H

#include <semaphore.h>
#include <stdbool.h>
#include "ExecGuard.h"

#include <stddef.h>
#include <stdint.h>

// The counter shared by all cores and processes of a machine: TSC on x86-64, CNTVCT on arm64. Not ordered with earlier
// loads; a thread's own readings never go back.
static inline uint64_t nvmepf_ticks(void) {
#if defined(__x86_64__)
  uint32_t lo, hi;
  __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
  return ((uint64_t)hi << 32) | lo;
#elif defined(__aarch64__)
  // Without the barrier even two readings may change places (Arm ARM, D12.1.2).
  uint64_t ticks;
  __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
#error "nvmepf runs on x86-64 and arm64"
#endif
}

// Like nvmepf_ticks, but read after every earlier load has its value: for observations. On arm64 a branch must depend on
// what was loaded: the barrier waits for that branch, not for a load.
static inline uint64_t nvmepf_ticks_after_loads(void) {
#if defined(__x86_64__)
  uint32_t lo, hi;
  __asm__ volatile("lfence\n\trdtsc" : "=a"(lo), "=d"(hi) : : "memory");
  return ((uint64_t)hi << 32) | lo;
#else
  uint64_t ticks;
  __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
  return ticks;
#endif
}

// A hint to the core that the caller spins.
static inline void nvmepf_relax(void) {
#if defined(__x86_64__)
  __asm__ volatile("pause");
#else
  __asm__ volatile("yield");
#endif
}

// CRC32C (Castagnoli, RFC 3720 B.4) of `length` bytes, continuing `crc` (0 to begin).
uint32_t nvmepf_crc32c(uint32_t crc, const void *bytes, size_t length);

// Send `length` bytes and `fd_count` descriptors in one message. Returns bytes sent, or -errno.
long nvmepf_send_with_fds(int socket, const void *bytes, size_t length, const int *fds, size_t fd_count);

// Receive up to `length` bytes; descriptors received with them go to `fds` (at most `fd_capacity`, the rest are
// closed), their number to `fd_count`. Close-on-exec. Sets `*is_cut` if the kernel dropped descriptors because this
// process can open no more. Returns bytes, 0 at the end, or -errno.
long nvmepf_receive_with_fds(int socket, void *bytes, size_t length, int *fds, size_t fd_capacity, size_t *fd_count,
                             bool *is_cut);

// Open flag: a reference to a file without opening it.
int nvmepf_open_path(void);

// Accept a connection, close-on-exec and non-blocking. Returns a descriptor or -errno.
int nvmepf_accept(int listener);

// Wait for a semaphore until a time of CLOCK_MONOTONIC, which is never set. Return 0 or an errno: ETIMEDOUT, EINTR.
int nvmepf_wait_until(sem_t *semaphore, const struct timespec *moment);

// Name the calling thread, at most 15 bytes.
void nvmepf_name_thread(const char *name);

// Pin the calling thread to one core; no effect if the core does not exist.
void nvmepf_pin_thread(int core);

// Number of cores that the calling thread may use; at least 1.
int nvmepf_allowed_cores(void);

// Deallocate `length` bytes of a file from `offset` on; they then read as zeros. Returns 0 or -errno.
int nvmepf_punch_hole(int fd, uint64_t offset, uint64_t length);

// Position of the first bytes at or after `offset` that are not in a hole; -ENXIO if there are none.
int64_t nvmepf_next_data(int fd, uint64_t offset);

// Create an event counter, nonblocking, close-on-exec. Returns a descriptor or -errno.
int nvmepf_eventfd(void);

// Write bytes to standard output. Returns false if they do not fit there.
bool nvmepf_write_output(const void *bytes, size_t count);

// Whether everything written to standard output has arrived.
bool nvmepf_flush_output(void);

// Create an anonymous shared memory file, close-on-exec. Returns a descriptor or -errno.
int nvmepf_memfd(const char *name);

// The same with a fixed length of `length` bytes: sealed against growing, shrinking and other seals.
int nvmepf_sealed_memfd(const char *name, uint64_t length);

// Alignment of mappings of this file in bytes: its huge pages, else 4096. 0 if its memory may never answer (a file
// system in user space or on a network): such a file must not be mapped.
uint64_t nvmepf_mapping_alignment(int fd);

// Whether a regular file is storage, not a kernel interface that looks like a file (/sys, /proc).
bool nvmepf_is_stored(int fd);

// Whether io_uring performs reads and writes of this file without blocking its submitter.
bool nvmepf_never_blocks(int fd);

// A range of a client's PCI addresses and its address in this process. The client owns the memory and can remove it at
// any time by truncating its file.
struct nvmepf_range {
  uint64_t address;
  uint64_t length;
  // NULL if the client gave no descriptor: the range is not accessible.
  void *base;
  bool writable;
  // The whole mapping that contains the range.
  void *mapping;
  uint64_t mapping_length;
};

// The guarded memory of one thread.
struct nvmepf_guard {
  const struct nvmepf_range *ranges;
  size_t count;
  // Set if an access found its memory gone.
  volatile bool is_lost;
};

// From now on, an access of the calling thread to lost memory of `guard` (SIGBUS) reads zeros and sets `is_lost`. NULL
// ends the guard. Any other SIGBUS keeps its previous effect.
void nvmepf_guard_thread(struct nvmepf_guard *guard);

// Whether an access before this line found its memory gone.
static inline bool nvmepf_is_lost(const struct nvmepf_guard *guard) {
  // The signal arrives at the faulting instruction, so only the compiler must preserve the order.
  __asm__ volatile("" : : : "memory");
  return guard->is_lost;
}

#endif
