// SPDX-License-Identifier: GPL-2.0-only
#ifndef NVMEPF_TAKE_OVER_H
#define NVMEPF_TAKE_OVER_H

#include <stddef.h>

struct thread_data;
struct ioengine_ops;

/// The engine, in nvmepf.c.
extern struct ioengine_ops ioengine;

/// Prints one line for the user on standard error.
void nvmepf_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/// Makes the option at `offset` in struct thread_options count as not set by the job.
void nvmepf_unset_option(struct thread_data *td, size_t offset);

/// Reports once which options of its own engine a job sets without effect.
void nvmepf_note_foreign_options(struct thread_data *td);

/// Whether `path` is a device that stores written data.
bool nvmepf_is_device(const char *path);

/// The device that a log replayed by the job would write; NULL if there is none. The string is never freed.
const char *nvmepf_device_in_logs(const struct thread_data *td);

/// Ends fio if any job would write a real device and record does not allow it. Every job calls it before it opens the
/// controller, so that no job does I/O before all are checked.
void nvmepf_refuse_devices(void);

/// The same for this job alone, after fio has read the log that the job replays.
void nvmepf_refuse_device(struct thread_data *td);

/// Makes a job that nvmepf refuses count in fio's exit status; for a job that its own thread sets up fio would report
/// success.
int nvmepf_fail_setup(struct thread_data *td);

#endif
