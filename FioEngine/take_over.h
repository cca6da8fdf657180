// SPDX-License-Identifier: GPL-2.0-only
#ifndef NVMEPF_TAKE_OVER_H
#define NVMEPF_TAKE_OVER_H

#include <stddef.h>

struct thread_data;
struct ioengine_ops;

/// The engine, in nvmepf.c.
extern struct ioengine_ops ioengine;

/// One line for the user, on standard error.
void nvmepf_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/// As if the job did not set the option that lies at `offset` in struct thread_options.
void nvmepf_unset_option(struct thread_data *td, size_t offset);

/// Say once which options of its own engine a job sets, to no effect.
void nvmepf_note_foreign_options(struct thread_data *td);

/// Whether `path` is a device that keeps what is written to it.
bool nvmepf_is_device(const char *path);

/// The device that a log would write which the job replays; NULL where there is none. The string stays for ever.
const char *nvmepf_device_in_logs(const struct thread_data *td);

/// End fio if any job would write a real device and record does not allow it. Every job calls it before it opens the
/// controller, so that none does I/O before all are checked.
void nvmepf_refuse_devices(void);

/// End fio if this job would: once fio has read the log that the job repeats.
void nvmepf_refuse_device(struct thread_data *td);

/// Have a job that nvmepf does not set up count in fio's exit status; of one that its own thread sets up fio would report
/// success.
int nvmepf_fail_setup(struct thread_data *td);

#endif
