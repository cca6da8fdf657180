// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CPlatform.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { max_fds = 64 };

long nvmepf_send_with_fds(int socket, const void *bytes, size_t length, const int *fds, size_t fd_count) {
  if (fd_count > max_fds) return -EINVAL;
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int) * max_fds)];
  } control;
  memset(&control, 0, sizeof control);
  struct iovec vector = {.iov_base = (void *)bytes, .iov_len = length};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (fd_count > 0) {
    message.msg_control = control.room;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

long nvmepf_receive_with_fds(int socket, void *bytes, size_t length, int *fds, size_t fd_capacity, size_t *fd_count,
                             bool *is_cut) {
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int) * max_fds)];
  } control;
  struct iovec vector = {.iov_base = bytes, .iov_len = length};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
  *fd_count = 0;
  ssize_t received;
  do {
    received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return -errno;
  if (message.msg_flags & MSG_CTRUNC) *is_cut = true;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      if (*fd_count < fd_capacity)
        fds[(*fd_count)++] = fd;
      else
        close(fd);
    }
  }
  return received;
}

int nvmepf_open_path(void) { return O_PATH; }

int nvmepf_accept(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

int nvmepf_punch_hole(int fd, uint64_t offset, uint64_t length) {
  int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return fallocate(fd, mode, (off_t)offset, (off_t)length) < 0 ? -errno : 0;
}

int64_t nvmepf_next_data(int fd, uint64_t offset) {
  off_t found = lseek(fd, (off_t)offset, SEEK_DATA);
  return found < 0 ? -errno : found;
}

int nvmepf_memfd(const char *name) {
  int fd = memfd_create(name, MFD_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int nvmepf_sealed_memfd(const char *name, uint64_t length) {
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return -errno;
  if (ftruncate(fd, (off_t)length) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
    return fd;
  int error = errno;
  close(fd);
  return -error;
}

// Magic numbers that linux/magic.h lacks on some distributions.
enum {
  fs_tmpfs = 0x01021994,
  fs_ramfs = 0x858458f6,
  fs_hugetlbfs = 0x958458f6,
  fs_secretmem = 0x5345434d,
  fs_ext = 0xef53,
  fs_xfs = 0x58465342,
  fs_btrfs = 0x9123683e,
  fs_f2fs = 0xf2f52010,
  fs_zfs = 0x2fc12fc1,
  fs_bcachefs = 0xca451a4e,
  fs_overlay = 0x794c7630,
  fs_fuse = 0x65735546,
  fs_efivars = 0xde5e81e4,
};

static unsigned file_system(int fd, struct statfs *status) {
  return fstatfs(fd, status) == 0 ? (unsigned)status->f_type : 0;
}

uint64_t nvmepf_mapping_alignment(int fd) {
  struct statfs status;
  switch (file_system(fd, &status)) {
    case fs_hugetlbfs:
      return (uint64_t)status.f_bsize;
    case fs_tmpfs:
    case fs_ramfs:
    case fs_secretmem:
    case fs_ext:
    case fs_xfs:
    case fs_btrfs:
    case fs_f2fs:
    case fs_zfs:
    case fs_bcachefs:
      return 4096;
    default:
      return 0;
  }
}

bool nvmepf_is_stored(int fd) {
  struct statfs status;
  switch (file_system(fd, &status)) {
    case fs_tmpfs:
    case fs_ramfs:
    case fs_fuse:
      return true;
    case fs_efivars:
      return false;
    default:
      // File systems without blocks are kernel interfaces.
      return status.f_blocks > 0;
  }
}

bool nvmepf_never_blocks(int fd) {
  struct stat file;
  struct statfs status;
  if (fstat(fd, &file) == 0 && (S_ISBLK(file.st_mode) || S_ISCHR(file.st_mode))) return true;
  switch (file_system(fd, &status)) {
    case fs_tmpfs:
    case fs_ext:
    case fs_xfs:
    case fs_btrfs:
    case fs_f2fs:
      return true;
    default:
      return false;
  }
}

static _Thread_local struct nvmepf_guard *guard_of_thread;
static struct sigaction bus_error_before;

// Replace the whole mapping: after its first loss none of it is trusted, and the rest causes no more signals.
static bool replace_lost(const void *place) {
  struct nvmepf_guard *guard = guard_of_thread;
  if (guard == NULL) return false;
  for (size_t i = 0; i < guard->count; i++) {
    const struct nvmepf_range *range = &guard->ranges[i];
    if (range->mapping == NULL || (uintptr_t)place - (uintptr_t)range->mapping >= range->mapping_length) continue;
    int flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (mmap(range->mapping, range->mapping_length, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) return false;
    guard->is_lost = true;
    return true;
  }
  return false;
}

static void on_bus_error(int signal, siginfo_t *info, void *context) {
  (void)context;
  int error = errno;
  if (info->si_code <= 0 || !replace_lost(info->si_addr)) {
    // Run the instruction again with the previous handler; a signal sent by a process is sent again.
    sigaction(SIGBUS, &bus_error_before, NULL);
    if (info->si_code <= 0) raise(signal);
  }
  errno = error;
}

static void install_bus_error_handler(void) {
  struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaction(SIGBUS, &action, &bus_error_before);
}

void nvmepf_guard_thread(struct nvmepf_guard *guard) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, install_bus_error_handler);
  guard_of_thread = guard;
}

int nvmepf_wait_until(sem_t *semaphore, const struct timespec *moment) {
  return sem_clockwait(semaphore, CLOCK_MONOTONIC, moment) == 0 ? 0 : errno;
}

void nvmepf_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

void nvmepf_pin_thread(int core) {
  if (core < 0 || core >= CPU_SETSIZE) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(0, sizeof set, &set);
}

int nvmepf_allowed_cores(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

bool nvmepf_write_output(const void *bytes, size_t count) { return fwrite(bytes, 1, count, stdout) == count; }

bool nvmepf_flush_output(void) { return fflush(stdout) == 0 && !ferror(stdout); }

int nvmepf_eventfd(void) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}
