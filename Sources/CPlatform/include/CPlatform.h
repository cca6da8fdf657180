// SPDX-License-Identifier: Apache-2.0
// What Swift cannot import or express: the cycle counter, CRC32C instructions, descriptors over a socket.
#ifndef NVMEPF_CPLATFORM_H
#define NVMEPF_CPLATFORM_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include "ExecGuard.h"

#include <stddef.h>
#include <stdint.h>

// The counter that every core and every process of a machine shares: TSC on x86-64, CNTVCT on arm64. Not ordered
// with the loads before it.
static inline uint64_t nvmepf_ticks(void) {
#if defined(__x86_64__)
  uint32_t lo, hi;
  __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
  return ((uint64_t)hi << 32) | lo;
#elif defined(__aarch64__)
  uint64_t ticks;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
#error "nvmepf runs on x86-64 and arm64"
#endif
}

// As nvmepf_ticks, read only once every earlier load has its value: for "seen at".
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

// Receive up to `length` bytes; descriptors that came with them go to `fds` (at most `fd_capacity`, the rest are
// closed), their number to `fd_count`. Close-on-exec. `*is_cut` becomes true where the kernel dropped descriptors,
// because this process can have no more. Returns bytes, 0 at the end, or -errno.
long nvmepf_receive_with_fds(int socket, void *bytes, size_t length, int *fds, size_t fd_capacity, size_t *fd_count,
                             bool *is_cut);

// Open flag: only a path to a file, without opening it.
int nvmepf_open_path(void);

// Accept a connection, close-on-exec and non-blocking. Returns a descriptor or -errno.
int nvmepf_accept(int listener);

// Wait until a moment of CLOCK_MONOTONIC, which nobody sets. 0, or an errno: ETIMEDOUT, and EINTR of the first.
int nvmepf_wait_until(sem_t *semaphore, const struct timespec *moment);
int nvmepf_lock_until(pthread_mutex_t *mutex, const struct timespec *moment);

// Name the calling thread, at most 15 bytes.
void nvmepf_name_thread(const char *name);

// Tie the calling thread to one core; without effect where there is no such core.
void nvmepf_pin_thread(int core);

// How many cores the calling thread may run on; at least 1.
int nvmepf_allowed_cores(void);

// Give the disk `length` bytes of a file from `offset` on back; they read as zeros. 0 or -errno.
int nvmepf_punch_hole(int fd, uint64_t offset, uint64_t length);

// Where the first bytes of a file at or behind `offset` are that are not a hole; -ENXIO when there are none.
int64_t nvmepf_next_data(int fd, uint64_t offset);

// An event counter, non-blocking, close-on-exec; a descriptor or -errno.
int nvmepf_eventfd(void);

// Whether all that was written to standard output has arrived.
bool nvmepf_flush_output(void);

// An anonymous shared memory file, close-on-exec; a descriptor or -errno.
int nvmepf_memfd(const char *name);

// The same, of `length` bytes that nobody who is given the descriptor can change: sealed against growing, shrinking and
// other seals.
int nvmepf_sealed_memfd(const char *name, uint64_t length);

// Bytes to which mappings of this file are aligned: its huge pages, else 4096. 0 where its memory may never answer (a
// file system in user space, of a network): such a file must not be mapped.
uint64_t nvmepf_mapping_alignment(int fd);

// Whether a regular file is storage, not an interface of the kernel that looks like a file (/sys, /proc).
bool nvmepf_is_stored(int fd);

// Whether io_uring performs reads and writes of this file without blocking its submitter.
bool nvmepf_never_blocks(int fd);

// A range of a client's PCI addresses and where it lies in this process. The memory is the client's, who can take it away
// at any time by truncating its file.
struct nvmepf_range {
  uint64_t address;
  uint64_t length;
  // NULL where the client gave no descriptor: nothing is reachable there.
  void *base;
  bool writable;
  // The whole mapping that the range lies in.
  void *mapping;
  uint64_t mapping_length;
};

// The memory that one thread may lose.
struct nvmepf_guard {
  const struct nvmepf_range *ranges;
  size_t count;
  // Set when an access found its memory gone.
  volatile bool is_lost;
};

// From now on an access of the calling thread to memory of `guard` that is gone (SIGBUS) finds zeros instead and sets
// `is_lost`. NULL ends that. Any other SIGBUS does what it did before.
void nvmepf_guard_thread(struct nvmepf_guard *guard);

// Whether an access before this line found its memory gone.
static inline bool nvmepf_is_lost(const struct nvmepf_guard *guard) {
  // The signal arrives at the very instruction, so only the compiler must keep the order.
  __asm__ volatile("" : : : "memory");
  return guard->is_lost;
}

#endif
