// SPDX-License-Identifier: Apache-2.0
#ifndef NVMEPF_EXEC_GUARD_H
#define NVMEPF_EXEC_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// A program that a watched process is about to run, stopped until it is answered: seccomp_unotify(2).
struct nvmepf_exec {
  uint64_t id;
  int32_t pid;
  bool is_at;      // execveat, whose arguments begin with a directory
  bool is_32_bit;  // its pointers are
  uint64_t arguments[6];
};

// From now on, every execve and execveat of this process and its descendants waits for an answer through the descriptor
// that is returned; -1 with errno where there is none. `privileges_kept` becomes false where the kernel demands that
// setuid programs run without their privileges.
int nvmepf_guard_install(bool *privileges_kept);

// Fork, and become the ancestor of all that descends from the child: its orphans become children of this process. 0 in the
// child, its identifier in the parent, -1 with errno. For a process of one thread.
pid_t nvmepf_fork_below(void);

// Wait for the next. 1, 0 when no watched process is left, -1 with errno: EINTR when a child has ended. A listener of -1
// waits for that alone.
int nvmepf_guard_receive(int listener, struct nvmepf_exec *exec);

// Let it continue, or fail with `error` where that is not 0.
void nvmepf_guard_answer(int listener, uint64_t id, int error);

// A duplicate of another process's standard error that takes a line at once; -1 where there is none.
int nvmepf_standard_error_of(int32_t pid);

// Close all descriptors from `first` to `last`, where the kernel can (5.9 or later).
void nvmepf_close_range(unsigned first, unsigned last);

// Open `path` as a process sees it whose root directory is `root`. -1 with errno.
int nvmepf_open_in_root(int root, const char *path);

// Whether `mark` occurs in `bytes`.
bool nvmepf_contains(const void *bytes, size_t length, const void *mark, size_t mark_length);

// Whether a program that is run from this file gets capabilities by that.
bool nvmepf_gives_capabilities(int fd);

// The path that this program was run as, as execve(2) was given it.
const char *nvmepf_executed_path(void);

#endif
