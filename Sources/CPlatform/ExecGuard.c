// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "ExecGuard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)
// Skip `count` instructions unless the value is `value`.
#define UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count)
#define NOTIFY_IF(value) UNLESS(value, 1), RETURN(SECCOMP_RET_USER_NOTIF)

// The system calls by architecture; a second one is what 32-bit programs use.
#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define COMPAT_ARCH AUDIT_ARCH_I386
#define COMPAT_EXECVEAT 358
// The calls of x32 have their own numbers.
#define X32_EXECVE 0x40000208
#define X32_EXECVEAT 0x40000221
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#define COMPAT_ARCH AUDIT_ARCH_ARM
#define COMPAT_EXECVEAT 387
#define X32_EXECVE 0xfffffffe
#define X32_EXECVEAT 0xffffffff
#endif
#define COMPAT_EXECVE 11

static struct sock_filter filter[] = {
  LOAD(arch),
  UNLESS(NATIVE_ARCH, 10),
  LOAD(nr),
  NOTIFY_IF(__NR_execve),
  NOTIFY_IF(__NR_execveat),
  NOTIFY_IF(X32_EXECVE),
  NOTIFY_IF(X32_EXECVEAT),
  RETURN(SECCOMP_RET_ALLOW),
  UNLESS(COMPAT_ARCH, 5),
  LOAD(nr),
  NOTIFY_IF(COMPAT_EXECVE),
  NOTIFY_IF(COMPAT_EXECVEAT),
  RETURN(SECCOMP_RET_ALLOW),
};

int nvmepf_guard_install(bool *privileges_kept) {
  struct sock_fprog program = {.len = sizeof(filter) / sizeof(*filter), .filter = filter};
  const unsigned flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW;

  *privileges_kept = true;
  long listener = syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (listener < 0 && errno == EACCES) {
    *privileges_kept = false;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
      return -1;
    listener = syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  }
  return (int)listener;
}

static void wake(int signal) { (void)signal; }

pid_t nvmepf_fork_below(void) {
  const struct sigaction action = {.sa_handler = wake};
  sigset_t ended;

  if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    return -1;
  const pid_t pid = fork();
  if (pid > 0) {
    // Ignore signals that the command sends to its parent. The watcher's own faults still end it.
    for (int number = 1; number < NSIG; number++)
      if (number != SIGILL && number != SIGTRAP && number != SIGABRT && number != SIGBUS && number != SIGFPE &&
          number != SIGSEGV && number != SIGSYS)
        signal(number, SIG_IGN);
    // Blocked except in nvmepf_guard_receive, so that none is missed between checking for ended children and waiting.
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, NULL);
    sigaction(SIGCHLD, &action, NULL);
  }
  return pid;
}

int nvmepf_guard_receive(int listener, struct nvmepf_exec *exec) {
  struct seccomp_notif request;
  sigset_t none;

  sigemptyset(&none);
  for (;;) {
    struct pollfd wait = {.fd = listener, .events = POLLIN};
    if (ppoll(&wait, 1, NULL, &none) < 0)
      return -1;
    if (!(wait.revents & POLLIN))
      return 0;
    memset(&request, 0, sizeof(request));
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) == 0)
      break;
    // The requesting process was killed meanwhile.
    if (errno != EINTR && errno != ENOENT)
      return -1;
  }
  const unsigned number = (unsigned)request.data.nr;
  *exec = (struct nvmepf_exec){.id = request.id, .pid = (int32_t)request.pid};
  if (request.data.arch == NATIVE_ARCH) {
    exec->is_at = number == __NR_execveat || number == X32_EXECVEAT;
    exec->is_32_bit = number == X32_EXECVE || number == X32_EXECVEAT;
  } else {
    exec->is_at = number == COMPAT_EXECVEAT;
    exec->is_32_bit = true;
  }
  for (int i = 0; i < 6; i++)
    exec->arguments[i] = request.data.args[i];
  return 1;
}

void nvmepf_guard_answer(int listener, uint64_t id, int error) {
  struct seccomp_notif_resp answer = {.id = id, .error = -error};

  if (!error)
    answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

int nvmepf_standard_error_of(int32_t pid) {
  const int process = (int)syscall(__NR_pidfd_open, pid, 0);
  if (process < 0)
    return -1;
  const int fd = (int)syscall(__NR_pidfd_getfd, process, STDERR_FILENO, 0);
  close(process);
  struct pollfd writable = {.fd = fd, .events = POLLOUT};
  if (fd < 0 || (poll(&writable, 1, 0) == 1 && writable.revents == POLLOUT))
    return fd;
  close(fd);
  return -1;
}

void nvmepf_close_range(unsigned first, unsigned last) { close_range(first, last, 0); }

int nvmepf_open_in_root(int root, const char *path) {
  const struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, .resolve = RESOLVE_IN_ROOT};

  return (int)syscall(__NR_openat2, root, path, &how, sizeof(how));
}

bool nvmepf_contains(const void *bytes, size_t length, const void *mark, size_t mark_length) {
  return memmem(bytes, length, mark, mark_length) != NULL;
}

bool nvmepf_gives_capabilities(int fd) { return fgetxattr(fd, "security.capability", NULL, 0) > 0; }

const char *nvmepf_executed_path(void) {
  const char *path = (const char *)getauxval(AT_EXECFN);

  return path ? path : "";
}
