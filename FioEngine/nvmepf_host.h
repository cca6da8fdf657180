// SPDX-License-Identifier: Apache-2.0
#ifndef NVMEPF_HOST_H
#define NVMEPF_HOST_H

#include <stddef.h>
#include <stdint.h>

/// The C interface of `libnvmepf-host.so`, an NVMe host driver in user space, over vfio-user, for programs that are not
/// written in Swift. The fio engine uses it, and loads it at run time.
///
/// All threads may use a controller at once; one thread at a time a queue. No function of a queue allocates, locks or
/// enters the kernel, except `nvmepf_queue_open`, `nvmepf_queue_close`, and `nvmepf_queue_reap` after it has polled for
/// some microseconds without finding a completion.

/// The version of this interface, raised by every change that affects programs built against an older header.
#define NVMEPF_HOST_ABI 2

/// A controller reached over vfio-user, enabled, with its first active namespace.
typedef struct nvmepf_host nvmepf_host;

/// One I/O queue pair: a submission queue and its completion queue.
typedef struct nvmepf_queue nvmepf_queue;

/// The operation of a command. `NVMEPF_TRIM` is Dataset Management with the Deallocate attribute.
enum {
  NVMEPF_READ,
  NVMEPF_WRITE,
  NVMEPF_FLUSH,
  NVMEPF_TRIM,
};

/// A command that the device completed.
struct nvmepf_completion {
  /// The tag given to `nvmepf_queue_submit`.
  void *tag;
  /// The Status field without the Phase Tag; 0 is success (NVM Express Base 2.1, 4.2.3).
  uint16_t status;
};

/// The NVMEPF_HOST_ABI of the library. Call it first; a program built for another version must use nothing else.
uint32_t nvmepf_host_abi(void);

/// Connects to the vfio-user server at `socket_path` and enables the controller. On failure returns NULL, and writes
/// one line of text, without a line break, to the `error_size` bytes at `error`.
nvmepf_host *nvmepf_host_open(const char *socket_path, char *error, size_t error_size);

/// Shuts the controller down and disconnects. Close its queues and free its memory first.
void nvmepf_host_close(nvmepf_host *host);

/// The size of the namespace in bytes.
uint64_t nvmepf_host_size(const nvmepf_host *host);

/// The logical block size in bytes: offsets and lengths are multiples of it.
uint32_t nvmepf_host_block_size(const nvmepf_host *host);

/// The largest transfer of one read or write command in bytes: a multiple of the block size.
uint32_t nvmepf_host_max_transfer(const nvmepf_host *host);

/// Maximum entries of a queue. A queue of n entries has room for n - 1 commands.
uint32_t nvmepf_host_max_queue_entries(const nvmepf_host *host);

/// Whether the controller supports Dataset Management: 1 or 0.
int nvmepf_host_can_trim(const nvmepf_host *host);

/// Allocates `bytes` of memory for data buffers that the device can access, page-aligned and zeroed. NULL if there is
/// no more.
void *nvmepf_host_allocate(nvmepf_host *host, size_t bytes);

/// Frees memory from `nvmepf_host_allocate` of `bytes`, when no command uses it any more.
void nvmepf_host_free(nvmepf_host *host, void *memory, size_t bytes);

/// Creates an I/O queue pair with room for `depth` outstanding commands. `threads` threads of this process will wait
/// for the controller: if they and its own polling thread exceed the cores, the queue pair gets an interrupt and
/// `nvmepf_queue_reap` sleeps; otherwise it polls. On failure returns NULL, and writes one line of text, without a line
/// break, to the `error_size` bytes at `error`.
nvmepf_queue *nvmepf_queue_open(nvmepf_host *host, uint32_t depth, uint32_t threads, char *error, size_t error_size);

/// Deletes the queue pair. Afterwards the device uses no buffer of its outstanding commands.
void nvmepf_queue_close(nvmepf_queue *queue);

/// Writes a command into the submission queue, without ringing the doorbell.
///
/// `operation` is one of the values above. `offset` and `length` are bytes of the namespace; a flush ignores them.
/// `buffer` must be in memory from `nvmepf_host_allocate`, dword-aligned, and belongs to the device until the command
/// completes; flush and trim ignore it. The completion returns `tag`.
///
/// Returns 0; -EAGAIN if `depth` commands are outstanding; -EINVAL for an invalid range or buffer.
int nvmepf_queue_submit(nvmepf_queue *queue, int operation, uint64_t offset, void *buffer, uint32_t length, void *tag);

/// Rings the submission queue's doorbell once for all commands submitted since the last ring.
void nvmepf_queue_ring(nvmepf_queue *queue);

/// Consumes at most `max` completions, in the order of the completion queue: polls until there are `min` or
/// `timeout_ns` nanoseconds have passed; with a `min` of 0 it only checks once. Each command completes once, whatever
/// the device writes. After some microseconds without a completion it yields or sleeps between polls. Returns their
/// number, -EIO if the device has disconnected, or -ETIMEDOUT if a command has been outstanding for longer than
/// NVMEPF_TIMEOUT seconds (environment; default 30).
int nvmepf_queue_reap(nvmepf_queue *queue, struct nvmepf_completion *completions, uint32_t min, uint32_t max,
                      uint64_t timeout_ns);

/// Writes the names of the outstanding commands, in one line without a line break, to the `size` bytes at `text`.
void nvmepf_queue_outstanding(const nvmepf_queue *queue, char *text, size_t size);

#endif
