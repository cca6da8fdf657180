// SPDX-License-Identifier: GPL-2.0-only
//
// Which device a log of I/O would write that a job replays: fio's own, versions 2 and 3, and blktrace's, of a machine with this
// byte order. fio reads the log when the job begins; the check must come before.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fio.h>
#include <blktrace_api.h>

#include "take_over.h"

// A line is "[time] file action [offset length]".
static char *device_of_lines(FILE *log, int version) {
  char *line = NULL, *device = NULL;
  char name[257], action[17];
  size_t room = 0;

  while (!device && getline(&line, &room, log) > 0) {
    const char *format = version == 3 ? "%*s %256s %16s" : "%256s %16s";
    if (sscanf(line, format, name, action) == 2 && (!strcmp(action, "write") || !strcmp(action, "trim")) &&
        nvmepf_is_device(name))
      device = strdup(name);
  }
  free(line);
  return device;
}

static char *device_of_trace(FILE *log) {
  struct blk_io_trace event;
  char path[64];

  while (fread(&event, sizeof(event), 1, log) == 1 && (event.magic & 0xffffff00) == BLK_IO_TRACE_MAGIC) {
    const bool writes = event.action & (BLK_TC_ACT(BLK_TC_WRITE) | BLK_TC_ACT(BLK_TC_DISCARD));
    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", event.device >> 20, event.device & 0xfffff);
    if (writes && !(event.action & BLK_TC_ACT(BLK_TC_NOTIFY)) && !access(path, F_OK))
      return strdup(path);
    if (fseek(log, event.pdu_len, SEEK_CUR))
      break;
  }
  return NULL;
}

static char *device_of_log(const char *path) {
  char first[32] = "";
  struct stat status;
  uint32_t magic = 0;
  char *device = NULL;

  // A file that can be read only once belongs to fio: standard input, a socket.
  if (stat(path, &status) || !S_ISREG(status.st_mode))
    return NULL;
  FILE *log = fopen(path, "re");
  if (!log)
    return NULL;
  if (fread(&magic, sizeof(magic), 1, log) == 1 && (magic & 0xffffff00) == BLK_IO_TRACE_MAGIC) {
    rewind(log);
    device = device_of_trace(log);
  } else {
    rewind(log);
    int version = 0;
    if (fgets(first, sizeof(first), log) && sscanf(first, "fio version %d iolog", &version) == 1)
      device = device_of_lines(log, version);
  }
  fclose(log);
  return device;
}

const char *nvmepf_device_in_logs(const struct thread_data *td) {
  char *names = td->o.read_iolog_file ? strdup(td->o.read_iolog_file) : NULL;
  char *rest = names, *device = NULL;
  const char *name;

  // If everything is redirected, the names in the log do not matter.
  while (!device && !td->o.replay_redirect && (name = strsep(&rest, ":")))
    device = device_of_log(name);
  free(names);
  return device;
}
