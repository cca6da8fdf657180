// SPDX-License-Identifier: GPL-2.0-only
//
// Keeps real devices from being written. Jobs work on the endpoint whatever they name, but a writing job that names a device
// is more likely a mistake than meant, so fio ends before any job runs; and fio's own files (--output, logs) must not be
// block devices. record says in the environment whether this holds (--allow-real-devices).

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <fio.h>

#include "take_over.h"

static bool allows_devices(void) {
  const char *allowed = getenv("NVMEPF_ALLOWS_REAL_DEVICES");
  return !allowed || strcmp(allowed, "0");
}

static bool is_block_device(const char *path) {
  struct stat status;
  return !stat(path, &status) && S_ISBLK(status.st_mode);
}

// null, zero, full, random and urandom store nothing.
static bool keeps_nothing(dev_t device) {
  const unsigned int number = minor(device);
  return major(device) == 1 && (number == 3 || number == 5 || (number >= 7 && number <= 9));
}

// A block device, or a character device such as /dev/ng0n1 or /dev/sg0.
bool nvmepf_is_device(const char *path) {
  struct stat status;
  if (stat(path, &status))
    return false;
  return S_ISBLK(status.st_mode) || (S_ISCHR(status.st_mode) && !keeps_nothing(status.st_rdev));
}

// The device that a job names and would write.
static const char *device_of(struct thread_data *td) {
  const struct ioengine_ops *engine = td->io_ops;
  struct fio_file *file;
  unsigned int index;

  if (!engine || engine->setup != ioengine.setup)
    return NULL;
  const char *logged = nvmepf_device_in_logs(td);
  if (logged)
    return logged;
  // The I/O of a redirected log is not known yet.
  if (td->o.read_iolog_file && td->o.replay_redirect && nvmepf_is_device(td->o.replay_redirect))
    return td->o.replay_redirect;
  if (!td_write(td) && !td_trim(td))
    return NULL;
  for_each_file(td, file, index) {
    if (nvmepf_is_device(file->file_name))
      return file->file_name;
  }
  return NULL;
}

// Files that fio opens by itself: --output, logs, a file with its process number.
static void check_file(const char *path, bool writes) {
  if (!writes || !path || allows_devices() || !is_block_device(path))
    return;
  nvmepf_note("fio was stopped before it wrote its output or log to %.200s, which is a block device: name a file, or run "
              "nvmepf record --allow-real-devices", path);
  _exit(2);
}

void nvmepf_refuse_device(struct thread_data *td) {
  // Never unlocked: the next thread that finds a device waits for the end.
  static pthread_mutex_t last_words = PTHREAD_MUTEX_INITIALIZER;
  const char *device = allows_devices() ? NULL : device_of(td);

  if (!device)
    return;
  pthread_mutex_lock(&last_words);
  nvmepf_note("%s: not run: the job writes, and names the device %.200s: remove the name, since fio works on "
              "the endpoint, or run nvmepf record --allow-real-devices (the job then works on the endpoint as well)",
              td->o.name, device);
  _exit(2);
}

static void refuse_devices(void) {
  struct thread_data *td;
  unsigned int number;

  for_each_td(td, number) {
    check_file(td->o.write_iolog_file, true);
    nvmepf_refuse_device(td);
  }
}

// Later a job may have ended already, and its names are freed.
void nvmepf_refuse_devices(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  pthread_once(&once, refuse_devices);
}

static void *next(const char *name) {
  void *function = dlsym(RTLD_NEXT, name);
  if (!function) {
    nvmepf_note("this C library has no %s: fio cannot be recorded", name);
    _exit(2);
  }
  return function;
}

// fio's calls lead here, since the engine is loaded before the C library.
#define CHECKED_FOPEN(name)                                                                         \
  __attribute__((visibility("default"))) FILE *name(const char *path, const char *mode) {           \
    check_file(path, strpbrk(mode, "wa+"));                                                         \
    return ((FILE * (*)(const char *, const char *)) next(#name))(path, mode);                      \
  }

#define CHECKED_OPEN(name)                                                                          \
  __attribute__((visibility("default"))) int name(const char *path, int flags, ...) {               \
    mode_t mode = 0;                                                                                \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                          \
      va_list arguments;                                                                            \
      va_start(arguments, flags);                                                                   \
      mode = va_arg(arguments, mode_t);                                                             \
      va_end(arguments);                                                                            \
    }                                                                                               \
    check_file(path, (flags & O_ACCMODE) != O_RDONLY);                                              \
    return ((int (*)(const char *, int, ...)) next(#name))(path, flags, mode);                      \
  }

CHECKED_FOPEN(fopen)
CHECKED_FOPEN(fopen64)
CHECKED_OPEN(open)
CHECKED_OPEN(open64)
