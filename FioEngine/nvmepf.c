// SPDX-License-Identifier: GPL-2.0-only
//
// The fio engine "nvmepf": one controller for the fio process, one I/O queue pair for each job's thread. The NVMe host
// driver itself is libnvmepf-host.so, which lies beside this engine and is loaded when the first job is set up.
//
// On the path of an I/O nothing is allocated or locked, and fio's clock is read once per doorbell: fio's completion
// latency runs from the reading before the doorbell to the reading after the completions were taken.

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fio.h>
#include <optgroup.h>
#include <verify.h>

#include "nvmepf_host.h"
#include "take_over.h"

#define HOST_LIBRARY "libnvmepf-host.so"

// Interval at which a wait checks whether fio was stopped.
static const uint64_t patience_ns = 1000000000;

#define HOST_FUNCTIONS(each)   \
  each(host_abi)               \
  each(host_open)              \
  each(host_close)             \
  each(host_size)              \
  each(host_block_size)        \
  each(host_max_transfer)      \
  each(host_max_queue_entries) \
  each(host_can_trim)          \
  each(host_allocate)          \
  each(host_free)              \
  each(queue_open)             \
  each(queue_close)            \
  each(queue_submit)           \
  each(queue_ring)             \
  each(queue_reap)             \
  each(queue_outstanding)

// The functions of the host library, by their names without the prefix.
static struct {
#define DECLARE(name) __typeof__(nvmepf_##name) *name;
  HOST_FUNCTIONS(DECLARE)
#undef DECLARE
} library;

// The region of the namespace for one file of fio's jobs.
struct region {
  const char *file_name;
  uint64_t wanted;  // the size that a job names, 0 for none
  uint64_t base;
  uint64_t size;
};

// The controller shared by all jobs, and the layout of their files in its namespace.
static struct {
  pthread_mutex_t lock;
  nvmepf_host *controller;
  unsigned users;
  struct region *regions;  // by file name; NULL until the first job is set up
  size_t region_count;
  bool overlaps;  // and a job would verify that they do not
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

// fio writes the thread_data at the start of an engine's options.
struct options {
  struct thread_data *td;
  char *socket;
};

static struct fio_option options[] = {
  {
    .name = "socket",
    .lname = "vfio-user socket",
    .type = FIO_OPT_STR_STORE,
    .off1 = offsetof(struct options, socket),
    .help = "Socket of the vfio-user server (default: the environment's NVMEPF_SOCKET)",
    .category = FIO_OPT_C_ENGINE,
    .group = FIO_OPT_G_INVALID,
  },
  {.name = NULL},
};

// An io_u in flight: the tag of its commands, and fio's engine_data for it.
struct request {
  struct io_u *io_u;
  uint32_t commands;  // not completed yet
  uint16_t status;    // the first that was not success
};

// A job's thread, in td->io_ops_data.
struct job {
  nvmepf_host *controller;
  uint32_t max_transfer;

  nvmepf_queue *queue;

  struct io_u **submitted;  // since the last doorbell
  unsigned submitted_count;

  struct nvmepf_completion *completions;
  struct io_u **completed;  // by the last getevents

  size_t buffer_size;
  bool reported_failure;
  uint64_t stopped_ns; // when it first waited after the stop; 0 before
};

// A script may parse fio's own log, so nvmepf's messages go to standard error.
void nvmepf_note(const char *format, ...) {
  char line[1024];
  va_list arguments;

  va_start(arguments, format);
  vsnprintf(line, sizeof(line), format, arguments);
  va_end(arguments);
  dprintf(STDERR_FILENO, "nvmepf: %s\n", line);
}

static int load_library(void) {
  char path[PATH_MAX], real[PATH_MAX];
  Dl_info engine;

  if (library.host_abi)
    return 0;

  // The engine may be loaded through a link; the library is beside the file.
  if (!dladdr(&library, &engine) || !realpath(engine.dli_fname, real)) {
    log_err("nvmepf: cannot find the folder of the engine: %s\n", strerror(errno));
    return 1;
  }
  const int folder = (int)(strrchr(real, '/') + 1 - real);
  if (snprintf(path, sizeof(path), "%.*s" HOST_LIBRARY, folder, real) >= (int)sizeof(path))
    return 1;

  // Stays until the process ends: fio unloads an engine with its last job, and a language runtime cannot be unloaded.
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!handle) {
    log_err("nvmepf: cannot load the NVMe host driver: %s\n", dlerror());
    return 1;
  }

  __typeof__(library) found;
#define RESOLVE(name)                                                   \
  *(void **)&found.name = dlsym(handle, "nvmepf_" #name);               \
  if (!found.name) {                                                    \
    log_err("nvmepf: %s lacks nvmepf_" #name ": rebuild both\n", path); \
    return 1;                                                           \
  }
  HOST_FUNCTIONS(RESOLVE)
#undef RESOLVE

  if (found.host_abi() != NVMEPF_HOST_ABI) {
    log_err("nvmepf: %s has interface %u, this engine needs %u: rebuild both\n", path, found.host_abi(),
            NVMEPF_HOST_ABI);
    return 1;
  }
  library = found;
  return 0;
}

// Reports once what fio waits for, since the endpoint serves one host at a time.
static void *note_long_wait(void *opened) {
  struct timespec end;
  int result;

  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec++;
  while ((result = sem_clockwait(opened, CLOCK_MONOTONIC, &end)) && errno == EINTR)
    ;
  if (result)
    nvmepf_note("fio waits for the endpoint, which serves one host at a time: another fio may be using it");
  return NULL;
}

static nvmepf_host *open_host(const char *socket, char *error, size_t error_size) {
  sem_t opened;
  pthread_t watcher;

  sem_init(&opened, 0, 0);
  const bool watches = !pthread_create(&watcher, NULL, note_long_wait, &opened);
  nvmepf_host *host = library.host_open(socket, error, error_size);
  sem_post(&opened);
  if (watches)
    pthread_join(watcher, NULL);
  sem_destroy(&opened);
  return host;
}

// Opens the controller for the first job; caller holds the lock.
static int open_controller(const struct options *o) {
  const char *socket = o && o->socket ? o->socket : getenv("NVMEPF_SOCKET");
  char error[256] = "";

  if (shared.controller)
    return 0;
  if (!socket || !*socket) {
    log_err("nvmepf: which controller? Set the option socket=PATH, or NVMEPF_SOCKET in the environment\n");
    return 1;
  }
  if (load_library())
    return 1;

  shared.controller = open_host(socket, error, sizeof(error));
  if (!shared.controller) {
    log_err("nvmepf: %s: %s\n", socket, error);
    return 1;
  }
  return 0;
}

// Joins the controller.
static int attach(struct thread_data *td) {
  if (!td->o.use_thread) {
    log_err("nvmepf: the jobs share one controller and so must be threads of one process: add thread=1\n");
    return 1;
  }

  struct job *job = calloc(1, sizeof(*job));
  if (!job)
    return 1;

  pthread_mutex_lock(&shared.lock);
  // An engine that nvmepf has taken over keeps its own options.
  int failed = open_controller(td->io_ops->options == options ? td->eo : NULL);
  if (!failed)
    shared.users++;
  pthread_mutex_unlock(&shared.lock);
  if (failed) {
    free(job);
    return 1;
  }

  job->controller = shared.controller;
  job->max_transfer = library.host_max_transfer(job->controller);
  td->io_ops_data = job;
  return 0;
}

static int by_name(const void *left, const void *right) {
  return strcmp(((const struct region *)left)->file_name, ((const struct region *)right)->file_name);
}

static bool is_ours(const struct thread_data *td) {
  return td->io_ops && td->io_ops->setup == ioengine.setup;
}

// How far into the file the job reaches; 0 if it uses the existing size.
static uint64_t reach(const struct thread_data *td) {
  const struct thread_options *o = &td->o;
  const uint64_t size = o->file_size_high ? o->file_size_high : o->nr_files ? o->size / o->nr_files : o->size;

  return size ? size + o->start_offset + (uint64_t)td->subjob_number * o->offset_increment : 0;
}

// Every file of every job, once, in the order of their names. The caller holds the lock.
static int collect_files(void) {
  struct thread_data *td;
  struct fio_file *file;
  unsigned int number, index;
  size_t count = 0, kept = 0;

  for_each_td(td, number)
    count += is_ours(td) ? td->o.nr_files : 0;
  struct region *regions = calloc(count + 1, sizeof(*regions));
  if (!regions)
    return 1;
  count = 0;
  for_each_td(td, number) {
    if (!is_ours(td))
      continue;
    for_each_file(td, file, index)
      regions[count++] = (struct region){.file_name = file->file_name, .wanted = reach(td)};
  }
  qsort(regions, count, sizeof(*regions), by_name);
  for (size_t i = 0; i < count; i++) {
    if (kept && !by_name(&regions[kept - 1], &regions[i]))
      regions[kept - 1].wanted = max(regions[kept - 1].wanted, regions[i].wanted);
    else
      regions[kept++] = regions[i];
  }
  shared.regions = regions;
  shared.region_count = kept;
  return 0;
}

static bool any_job_verifies(void) {
  struct thread_data *td;
  unsigned int number;

  for_each_td(td, number) {
    if (is_ours(td) && td->o.verify != VERIFY_NONE)
      return true;
  }
  return false;
}

// Gives every file a region of the namespace: equal ones or, if these are too small for the jobs, as much as each
// requests and the rest to those that request nothing. False if there is not enough for all.
static bool divide_namespace(uint64_t total) {
  const uint64_t unit = max((uint64_t)library.host_block_size(shared.controller), (uint64_t)4096);
  const size_t count = shared.region_count;
  uint64_t share = total / count / unit * unit;
  uint64_t largest = 0, sum = 0, base = 0;
  size_t modest = 0;

  for (size_t i = 0; i < count; i++) {
    struct region *region = &shared.regions[i];
    // No file is larger than the namespace; the sum of such sizes does not wrap.
    region->wanted = region->wanted > total ? total + 1 : (region->wanted + unit - 1) / unit * unit;
    largest = max(largest, region->wanted);
    sum = sum > total ? sum : sum + region->wanted;
    modest += region->wanted == 0;
  }
  const bool equal = largest <= share;
  if (!equal && sum > total)
    return false;
  if (!equal && modest)
    share = (total - sum) / modest / unit * unit;
  if (share == 0)
    return false;
  for (size_t i = 0; i < count; i++) {
    struct region *region = &shared.regions[i];
    region->base = base;
    region->size = equal || !region->wanted ? share : region->wanted;
    base += region->size;
  }
  return true;
}

// One line that names the first few files, formatted by `describe`.
static void note_files(const char *lead, const char *tail, bool (*describe)(const struct region *, char *, size_t)) {
  enum { SHOWN = 4 };
  char list[700] = "", one[160];
  size_t found = 0;

  for (size_t i = 0; i < shared.region_count; i++) {
    if (!describe(&shared.regions[i], one, sizeof(one)))
      continue;
    if (found++ < SHOWN) {
      strncat(list, found > 1 ? ", " : "", sizeof(list) - strlen(list) - 1);
      strncat(list, one, sizeof(list) - strlen(list) - 1);
    }
  }
  if (found > SHOWN)
    snprintf(list + strlen(list), sizeof(list) - strlen(list), " and %zu more", found - SHOWN);
  if (found)
    nvmepf_note("%s%s%s", lead, list, tail);
}

static bool describe_place(const struct region *region, char *text, size_t size) {
  snprintf(text, size, "%.80s at %llu KiB (%llu KiB)", region->file_name, (unsigned long long)(region->base >> 10),
           (unsigned long long)(region->size >> 10));
  return true;
}

static bool describe_existing(const struct region *region, char *text, size_t size) {
  struct stat status;

  snprintf(text, size, "%.120s", region->file_name);
  return stat(region->file_name, &status) == 0 && !S_ISDIR(status.st_mode);
}

// Prints the region of each file. A single file gets the whole namespace; so does each of many that do not fit
// together, as long as no job reads back what was written. The caller holds the lock.
static int place_files(void) {
  const uint64_t total = library.host_size(shared.controller);

  if (shared.regions)
    return shared.overlaps;
  if (collect_files())
    return 1;
  note_files("", " is not touched: fio works on the endpoint's namespace (--backend, --config)", describe_existing);
  if (shared.region_count > 1 && divide_namespace(total)) {
    note_files("each file has its part of the namespace: ", "", describe_place);
    return 0;
  }
  for (size_t i = 0; i < shared.region_count; i++) {
    shared.regions[i].base = 0;
    shared.regions[i].size = total;
  }
  if (shared.region_count <= 1)
    return 0;
  shared.overlaps = any_job_verifies();
  if (shared.overlaps) {
    nvmepf_note("%zu files do not fit into a namespace of %llu KiB, and verify would find one's data in another: "
                "make it larger (record --size) or the jobs smaller", shared.region_count,
                (unsigned long long)(total >> 10));
    return 1;
  }
  nvmepf_note("%zu files do not fit into a namespace of %llu KiB beside each other: each stands for all of it",
              shared.region_count, (unsigned long long)(total >> 10));
  return 0;
}

static int engine_get_file_size(struct thread_data *td, struct fio_file *file) {
  struct job *job = td->io_ops_data;
  const struct region key = {.file_name = file->file_name};
  const struct region *region = NULL;

  pthread_mutex_lock(&shared.lock);
  if (shared.region_count)
    region = bsearch(&key, shared.regions, shared.region_count, sizeof(key), by_name);
  // A file named only by a replayed log is not known in advance.
  FILE_SET_ENG_DATA(file, (void *)(uintptr_t)(region ? region->base : 0));
  file->filetype = FIO_TYPE_BLOCK;
  file->real_file_size = region ? region->size : library.host_size(job->controller);
  pthread_mutex_unlock(&shared.lock);
  fio_file_set_size_known(file);
  return 0;
}

// fio waits for the commands of exec_prerun and exec_postrun, and a fio among them waits for the endpoint.
static void note_inner_fio(const struct thread_data *td) {
  static atomic_bool told;
  const char *commands[] = {td->o.exec_prerun, td->o.exec_postrun};

  for (size_t i = 0; i < 2; i++) {
    if (commands[i] && strstr(commands[i], "fio") && !atomic_exchange(&told, true))
      nvmepf_note("%s: a fio that exec_prerun or exec_postrun starts blocks for ever, because this fio uses the endpoint "
                  "until it ends", td->o.name);
  }
}

// Options without effect on the endpoint that would make fio fail or behave differently.
static void settle_options(struct thread_data *td) {
  static atomic_bool told_of_offload, told_of_memory;
  struct thread_options *o = &td->o;

  // Threads of one process can share the controller. A job set up in its own process is separate already.
  if (o->create_serialize)
    o->use_thread = 1;
  if (o->io_submit_mode == IO_MODE_OFFLOAD) {
    o->io_submit_mode = IO_MODE_INLINE;
    if (!atomic_exchange(&told_of_offload, true))
      nvmepf_note("io_submit_mode=offload has no effect: each job submits to its own queue pair");
  }
  if (fio_option_is_set(o, mem_type)) {
    nvmepf_unset_option(td, offsetof(struct thread_options, mem_type));
    o->mem_type = MEM_MALLOC;
    if (!atomic_exchange(&told_of_memory, true))
      nvmepf_note("mem= has no effect: buffers lie in memory that the device can reach");
  }
  o->pre_read = 0;
  nvmepf_note_foreign_options(td);
  note_inner_fio(td);
}

// Whether the job will compare what it reads with what was written. A job that only writes reads for do_verify;
// verify=null does everything except compare.
static bool compares(const struct thread_data *td) {
  const struct thread_options *o = &td->o;

  return o->verify != VERIFY_NONE && o->verify != VERIFY_NULL && (td_read(td) || o->do_verify);
}

// The server sets this environment variable if the namespace stores no data.
static bool refuses_verify(const struct thread_data *td) {
  static atomic_bool told;
  const char *keeps = getenv("NVMEPF_KEEPS_DATA");

  if (!compares(td) || !keeps || strcmp(keeps, "0"))
    return false;
  if (!atomic_exchange(&told, true))
    nvmepf_note("%s: verify needs a backend that keeps what is written: nvmepf record --backend memory", td->o.name);
  return true;
}

// Checks shared by setup and init, because create_serialize decides which comes first. They precede opening the
// controller, so that a refusal keeps the previous trace.
static int begin(struct thread_data *td) {
  if (td->io_ops_data)
    return 0;
  nvmepf_refuse_devices();
  return refuses_verify(td) || attach(td);
}

int nvmepf_fail_setup(struct thread_data *td) {
  td_verror(td, ECANCELED, "nvmepf setup");
  return 1;
}

static int engine_setup(struct thread_data *td) {
  struct fio_file *file;
  unsigned int i;

  settle_options(td);
  if (begin(td))
    return nvmepf_fail_setup(td);
  pthread_mutex_lock(&shared.lock);
  const int failed = place_files();
  pthread_mutex_unlock(&shared.lock);
  if (failed)
    return nvmepf_fail_setup(td);
  for_each_file(td, file, i)
    engine_get_file_size(td, file);
  return 0;
}

// Whether the namespace supports what the job requests.
static int check_options(const struct thread_data *td, const struct job *job) {
  const uint32_t block_size = library.host_block_size(job->controller);

  for_each_rw_ddir(ddir) {
    if (td->o.min_bs[ddir] % block_size || td->o.max_bs[ddir] % block_size) {
      log_err("nvmepf: %s: block sizes must be multiples of the namespace's %u bytes\n", td->o.name, block_size);
      return EINVAL;
    }
  }
  if (td_trim(td) && !library.host_can_trim(job->controller)) {
    log_err("nvmepf: %s: the controller does not support trim (Dataset Management)\n", td->o.name);
    return EOPNOTSUPP;
  }
  return 0;
}

// The queue must have room for every command of iodepth I/Os of the largest block size; if the controller has no such
// queue, iodepth is reduced. So the queue is never full, and fio's path for a full one, which breaks verify, is not
// used.
static int choose_depth(struct thread_data *td, const struct job *job, uint32_t *depth) {
  const uint64_t capacity = library.host_max_queue_entries(job->controller) - 1;
  const uint64_t largest = max(td->o.max_bs[DDIR_READ], td->o.max_bs[DDIR_WRITE]);
  const uint64_t commands = (largest + job->max_transfer - 1) / job->max_transfer;

  if (commands > capacity) {
    log_err("nvmepf: %s: an I/O of %llu bytes is %llu commands, a queue has room for %llu\n", td->o.name,
            (unsigned long long)largest, (unsigned long long)commands, (unsigned long long)capacity);
    return EINVAL;
  }
  if (commands * td->o.iodepth > capacity) {
    td->o.iodepth = (unsigned int)(capacity / commands);
    td->o.iodepth_low = min(td->o.iodepth_low, td->o.iodepth);
    td->o.iodepth_batch = min(td->o.iodepth_batch, td->o.iodepth);
    log_err("nvmepf: %s: iodepth lowered to %u: a queue has room for %llu commands, an I/O can be %llu\n", td->o.name,
            td->o.iodepth, (unsigned long long)capacity, (unsigned long long)commands);
  }
  *depth = (uint32_t)commands * td->o.iodepth;
  return 0;
}

static int engine_init(struct thread_data *td) {
  char error[256] = "";
  uint32_t depth = 0;

  nvmepf_refuse_device(td);
  if (begin(td))
    return ENODEV;

  struct job *job = td->io_ops_data;
  int failure = check_options(td, job);
  if (!failure)
    failure = choose_depth(td, job, &depth);
  if (failure)
    return failure;

  job->submitted = calloc(td->o.iodepth, sizeof(*job->submitted));
  job->completed = calloc(td->o.iodepth, sizeof(*job->completed));
  job->completions = calloc(td->o.iodepth, sizeof(*job->completions));
  if (!job->submitted || !job->completed || !job->completions)
    return ENOMEM;

  job->queue = library.queue_open(job->controller, depth, shared.users, error, sizeof(error));
  if (!job->queue) {
    log_err("nvmepf: %s: no I/O queue: %s\n", td->o.name, error);
    return EIO;
  }
  return 0;
}

static void close_queue(struct job *job) {
  if (job->queue)
    library.queue_close(job->queue);
  job->queue = NULL;
}

static void engine_cleanup(struct thread_data *td) {
  struct job *job = td->io_ops_data;

  if (!job)
    return;
  close_queue(job);

  pthread_mutex_lock(&shared.lock);
  if (--shared.users == 0) {
    library.host_close(shared.controller);
    shared.controller = NULL;
    free(shared.regions);
    shared.regions = NULL;
    shared.region_count = 0;
  }
  pthread_mutex_unlock(&shared.lock);

  free(job->submitted);
  free(job->completed);
  free(job->completions);
  free(job);
  td->io_ops_data = NULL;
}

static int engine_iomem_alloc(struct thread_data *td, size_t size) {
  struct job *job = td->io_ops_data;

  td->orig_buffer = library.host_allocate(job->controller, size);
  if (!td->orig_buffer) {
    log_err("nvmepf: %s: no room for %zu bytes of buffers that the device can reach: lower iodepth or bs\n", td->o.name,
            size);
    return ENOMEM;
  }
  job->buffer_size = size;
  return 0;
}

static void engine_iomem_free(struct thread_data *td) {
  struct job *job = td->io_ops_data;

  if (!job || !td->orig_buffer)
    return;
  // After a failure commands may still be outstanding: the device releases the buffers with the queue.
  close_queue(job);
  library.host_free(job->controller, td->orig_buffer, job->buffer_size);
  td->orig_buffer = NULL;
}

static int engine_io_u_init(struct thread_data *td fio_unused, struct io_u *io_u) {
  struct request *request = calloc(1, sizeof(*request));

  if (!request)
    return ENOMEM;
  request->io_u = io_u;
  io_u->engine_data = request;
  return 0;
}

static void engine_io_u_free(struct thread_data *td fio_unused, struct io_u *io_u) {
  free(io_u->engine_data);
  io_u->engine_data = NULL;
}

static int engine_open_file(struct thread_data *td fio_unused, struct fio_file *file fio_unused) { return 0; }

static int engine_close_file(struct thread_data *td fio_unused, struct fio_file *file fio_unused) { return 0; }

// unlink=1 concerns files created by fio; an existing file with that name is none of them.
static int engine_unlink_file(struct thread_data *td fio_unused, struct fio_file *file fio_unused) { return 0; }

static int engine_get_zoned_model(struct thread_data *td fio_unused, struct fio_file *file fio_unused,
                                  enum zbd_zoned_model *model) {
  *model = ZBD_NONE;
  return 0;
}

static enum fio_q_status completed_with(struct io_u *io_u, int error) {
  io_u->error = error;
  return FIO_Q_COMPLETED;
}

static enum fio_q_status engine_queue(struct thread_data *td, struct io_u *io_u) {
  struct job *job = td->io_ops_data;
  struct request *request = io_u->engine_data;
  uint64_t offset = io_u->offset + (uintptr_t)FILE_ENG_DATA(io_u->file);
  uint64_t left = io_u->xfer_buflen;
  uint64_t limit = job->max_transfer;
  char *buffer = io_u->xfer_buf;
  int operation;

  if (io_u->ddir == DDIR_READ) {
    operation = NVMEPF_READ;
  } else if (io_u->ddir == DDIR_WRITE) {
    operation = NVMEPF_WRITE;
  } else if (io_u->ddir == DDIR_TRIM) {
    operation = NVMEPF_TRIM;
    // It transfers a range, not its content: only the width of the length limits it.
    limit = UINT32_MAX - UINT32_MAX % job->max_transfer;
  } else if (ddir_sync(io_u->ddir)) {
    operation = NVMEPF_FLUSH;
    left = 0;
  } else {
    return completed_with(io_u, EINVAL);
  }

  request->commands = 0;
  request->status = 0;
  do {
    const uint32_t length = (uint32_t)(left < limit ? left : limit);
    const int result = library.queue_submit(job->queue, operation, offset, buffer, length, request);

    if (result) {
      // Commands submitted before this one complete; the io_u completes with them, as an error.
      io_u->error = -result;
      break;
    }
    request->commands++;
    offset += length;
    buffer += length;
    left -= length;
  } while (left);

  if (request->commands == 0)
    return FIO_Q_COMPLETED;
  job->submitted[job->submitted_count++] = io_u;
  return FIO_Q_QUEUED;
}

static int engine_commit(struct thread_data *td) {
  struct job *job = td->io_ops_data;
  struct timespec now;

  if (!job->submitted_count)
    return 0;

  // The time is read before the doorbell, so that the completion latency includes all of the device's time, and
  // recorded after it, while the device works.
  const bool timed = fio_fill_issue_time(td);
  if (timed)
    fio_gettime(&now, NULL);
  library.queue_ring(job->queue);

  if (timed) {
    for (unsigned i = 0; i < job->submitted_count; i++) {
      job->submitted[i]->issue_time = now;
      io_u_queued(td, job->submitted[i]);
    }
    if (td->o.read_iolog_file)
      td->last_issue = now;
  }
  io_u_mark_submit(td, job->submitted_count);
  job->submitted_count = 0;
  return 0;
}

// A job's first failure is printed in words, since fio knows only an errno; further ones would bury it.
static bool is_first_failure(struct job *job) {
  const bool first = !job->reported_failure;
  job->reported_failure = true;
  return first;
}

static void fail(const struct thread_data *td, struct job *job, const struct request *request) {
  struct io_u *io_u = request->io_u;

  io_u->error = EIO;
  if (is_first_failure(job))
    log_err("nvmepf: %s: %s of %llu bytes at %llu: NVMe status %#x (type %u, code %#x)\n", td->o.name,
            io_ddir_name(io_u->ddir), io_u->xfer_buflen, io_u->offset, request->status, request->status >> 8 & 0x7,
            request->status & 0xff);
}

static int give_up(const struct thread_data *td, struct job *job, const char *reason, int error) {
  if (is_first_failure(job))
    log_err("nvmepf: %s: %s\n", td->o.name, reason);
  return error;
}

static int give_up_late(const struct thread_data *td, struct job *job) {
  char commands[512] = "";
  char reason[600];

  library.queue_outstanding(job->queue, commands, sizeof(commands));
  snprintf(reason, sizeof(reason), "the device does not complete %s", commands);
  return give_up(td, job, reason, -ETIMEDOUT);
}

// How long commands in flight may take after fio was stopped.
static const uint64_t stop_grace_ns = 5000000000;

static uint64_t monotonic_ns(void) {
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}

// fio was stopped and a command is still in flight: report it, and abandon it when the grace period is over.
static int leave_late(const struct thread_data *td, struct job *job) {
  char commands[512] = "";
  char reason[600];
  const uint64_t now = monotonic_ns();

  library.queue_outstanding(job->queue, commands, sizeof(commands));
  if (job->stopped_ns == 0) {
    job->stopped_ns = now;
    nvmepf_note("%s: waiting for %s; a second signal to nvmepf ends fio immediately", td->o.name, commands);
  }
  if (now - job->stopped_ns < stop_grace_ns)
    return 0;
  snprintf(reason, sizeof(reason), "stopped, and left %s", commands);
  return give_up(td, job, reason, -ETIMEDOUT);
}

static int engine_getevents(struct thread_data *td, unsigned int min, unsigned int max, const struct timespec *timeout) {
  struct job *job = td->io_ops_data;
  const uint64_t wait_ns = timeout ? timeout->tv_sec * 1000000000ull + timeout->tv_nsec : patience_ns;
  unsigned int completed = 0;

  // An io_u completes with the last of its commands, so n commands complete at most n of them: never more than max.
  do {
    const int count = library.queue_reap(job->queue, job->completions, min > completed ? min - completed : 0,
                                         max - completed, wait_ns);
    if (count == -ETIMEDOUT)
      return give_up_late(td, job);
    if (count < 0)
      return give_up(td, job, "the device has disconnected", count);

    for (int i = 0; i < count; i++) {
      struct request *request = job->completions[i].tag;

      if (job->completions[i].status && !request->status)
        request->status = job->completions[i].status;
      if (--request->commands)
        continue;
      if (request->status)
        fail(td, job, request);
      job->completed[completed++] = request->io_u;
    }

    // Without a timeout fio waits as long as necessary.
    if (count == 0 && timeout)
      break;
    if (count == 0 && completed < min && td->terminate) {
      const int error = leave_late(td, job);

      if (error)
        return error;
    }
  } while (completed < min);
  return completed;
}

static struct io_u *engine_event(struct thread_data *td, int event) {
  struct job *job = td->io_ops_data;

  return job->completed[event];
}

// fio looks for this name.
__attribute__((visibility("default"))) struct ioengine_ops ioengine = {
  .name = "nvmepf",
  .version = FIO_IOOPS_VERSION,
  .flags = FIO_DISKLESSIO | FIO_RAWIO | FIO_NOEXTEND | FIO_NODISKUTIL | FIO_MEMALIGN |
           FIO_ASYNCIO_SETS_ISSUE_TIME,
  .setup = engine_setup,
  .init = engine_init,
  .cleanup = engine_cleanup,
  .iomem_alloc = engine_iomem_alloc,
  .iomem_free = engine_iomem_free,
  .io_u_init = engine_io_u_init,
  .io_u_free = engine_io_u_free,
  .get_file_size = engine_get_file_size,
  .open_file = engine_open_file,
  .close_file = engine_close_file,
  .unlink_file = engine_unlink_file,
  .get_zoned_model = engine_get_zoned_model,
  .queue = engine_queue,
  .commit = engine_commit,
  .getevents = engine_getevents,
  .event = engine_event,
  .options = options,
  .option_struct_size = sizeof(struct options),
};
