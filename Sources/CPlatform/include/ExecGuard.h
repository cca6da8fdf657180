// SPDX-License-Identifier: Apache-2.0
#ifndef NVMEPF_EXEC_GUARD_H
#define NVMEPF_EXEC_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// An execution by a watched process, stopped until it is answered: seccomp_unotify(2).
struct nvmepf_exec {
  uint64_t id;
  int32_t pid;
  bool is_at;      // execveat, whose arguments begin with a directory
  bool is_32_bit;  // its pointers are
  uint64_t arguments[6];
};

// From now on, every execve and execveat of this process and its descendants waits for an answer through the returned
// descriptor; -1 with errno on failure. Clears `privileges_kept` if the kernel requires that setuid programs run
// without their privileges.
int nvmepf_guard_install(bool *privileges_kept);

// Fork, and adopt the orphans of the child's descendants. Returns 0 in the child, its identifier in the parent, -1 with
// errno. Only for a process with one thread.
pid_t nvmepf_fork_below(void);

// Wait for the next execution. Returns 1, 0 if no watched process is left, -1 with errno: EINTR if a child has ended. A
// listener of -1 waits only for children.
int nvmepf_guard_receive(int listener, struct nvmepf_exec *exec);

// Let it continue, or fail with `error` if that is not 0.
void nvmepf_guard_answer(int listener, uint64_t id, int error);

// A duplicate of another process's standard error that accepts a line without blocking; -1 if there is none.
int nvmepf_standard_error_of(int32_t pid);

// Close all descriptors from `first` to `last` if the kernel supports it (5.9 or later).
void nvmepf_close_range(unsigned first, unsigned last);

// Open `path` relative to the root directory `root` of another process. Returns -1 with errno on failure.
int nvmepf_open_in_root(int root, const char *path);

// Whether `mark` occurs in `bytes`.
bool nvmepf_contains(const void *bytes, size_t length, const void *mark, size_t mark_length);

// Whether executing this file grants capabilities.
bool nvmepf_gives_capabilities(int fd);

// The path of this program as passed to execve(2).
const char *nvmepf_executed_path(void);

#endif
