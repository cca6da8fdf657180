// SPDX-License-Identifier: GPL-2.0-only
//
// How fio's jobs come to run on the engine "nvmepf" whatever they name. `nvmepf record` preloads this library into fio. When
// fio has registered its engines and before its main runs, each engine that does I/O gets the functions of ours and keeps its
// own options. fio itself parses command lines, job files, includes, profiles and standard input, so no way of naming an
// engine leads to another one. Anything that is not as expected ends fio before its first I/O.

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <fio.h>

#include "take_over.h"

// The name of an engine that was taken over begins with this.
#define PREFIX "nvmepf:"

// They do no I/O on files or devices.
static const char *const kept[] = {
  "cpuio", "exec", "net", "netsplice", "rdma", "librpma_apm_client", "librpma_apm_server", "librpma_gpspm_client",
  "librpma_gpspm_server", NULL,
};

// They create, change or remove files, which no controller can stand for.
static const char *const refused[] = {
  "filecreate", "filestat", "filedelete", "dircreate", "dirstat", "dirdelete", "falloc", "ftruncate", "e4defrag", NULL,
};

typedef int main_function(int, char **, char **);

static main_function *fio_main;

__attribute__((noreturn, format(printf, 1, 2))) static void refuse(const char *format, ...) {
  char line[512];
  va_list arguments;

  va_start(arguments, format);
  vsnprintf(line, sizeof(line), format, arguments);
  va_end(arguments);
  nvmepf_note("%s", line);
  _exit(2);
}

static bool is_in(const char *const *names, const char *name) {
  for (; *names; names++) {
    if (!strcmp(*names, name))
      return true;
  }
  return false;
}

static int refuse_setup(struct thread_data *td) {
  nvmepf_note("%s: ioengine=%s changes files, and a controller has none: run this job without nvmepf", td->o.name,
              td->io_ops->name + strlen(PREFIX));
  return nvmepf_fail_setup(td);
}

static char *prefixed(const char *name) {
  char *result = malloc(sizeof(PREFIX) + strlen(name));

  if (!result)
    refuse("no memory");
  return strcat(strcpy(result, PREFIX), name);
}

static void take_over(struct ioengine_ops *engine) {
  struct ioengine_ops ours = ioengine;

  ours.list = engine->list;
  ours.name = prefixed(engine->name);
  ours.dlhandle = engine->dlhandle;
  ours.options = engine->options;
  ours.option_struct_size = engine->option_struct_size;
  if (is_in(refused, engine->name))
    ours.setup = refuse_setup;
  *engine = ours;
}

// fio appends an engine to its list, so that the list's head is what follows ours.
static void take_over_engines(void) {
  register_ioengine(&ioengine);
  struct flist_head *head = ioengine.list.next;

  for (struct flist_head *entry = head->next; entry != head; entry = entry->next) {
    struct ioengine_ops *engine = flist_entry(entry, struct ioengine_ops, list);
    if (engine != &ioengine && !is_in(kept, engine->name))
      take_over(engine);
  }
}

// The engine for a job that names this one. An unknown name gets none, since fio would look for a library.
static char *replacement(const char *name) {
  name += strspn(name, " \t");
  const char *extension = strrchr(name, '.');

  if (!strncmp(name, "external", 8) || strchr(name, '/') || (extension && !strcmp(extension, ".so")) ||
      !strcmp(name, ioengine.name))
    return strdup(ioengine.name);
  if (is_in(kept, name) || !strncmp(name, PREFIX, strlen(PREFIX)))
    return strdup(name);
  // fio's other names for the same engine.
  if (!strncmp(name, "linuxaio", 8) || !strncmp(name, "aio", 3))
    name = "libaio";
  return prefixed(name);
}

static int store_engine(void *data, const char *name) {
  struct thread_options *o = data;

  // Jobs on the controller must be threads of one process; the others stay processes, since fio's engine exec fails as
  // a thread.
  if (!fio_option_is_set(o, use_thread))
    o->use_thread = !is_in(kept, name + strspn(name, " \t"));
  free(o->ioengine);
  o->ioengine = replacement(name);
  return !o->ioengine;
}

static void change_options(void) {
  struct fio_option *engine = find_option(fio_options, "ioengine");
  struct fio_option *thread = find_option(fio_options, "thread");

  if (!engine || engine->type != FIO_OPT_STR_STORE || !thread)
    refuse("this fio has no options ioengine and thread as nvmepf knows them: rebuild the engine (make build)");
  engine->cb = store_engine;
  // For jobs that name no engine.
  thread->def = "1";
  thread->no_warn_def = 1;
}

// Jobs of a fio on another machine would use its own engines. fio accepts every unique abbreviation.
static void refuse_client(int count, char **words) {
  for (int i = 1; i < count; i++) {
    const char *name = words[i];
    name += *name == '-';
    name += name != words[i] && *name == '-';
    const size_t length = strcspn(name, "=");
    if (name != words[i] && length >= 3 && !strncmp(name, "client", length) && length <= strlen("client"))
      refuse("fio --client runs its jobs on another machine, where nvmepf records nothing: run fio there under nvmepf");
  }
}

// Programs that fio starts are not fio.
static void remove_from_preload(void) {
  const char *list = getenv("LD_PRELOAD");
  const char *rest = list ? strchr(list, ':') : NULL;

  if (rest)
    setenv("LD_PRELOAD", rest + 1, 1);
  else
    unsetenv("LD_PRELOAD");
}

static int main_after_taking_over(int count, char **words, char **environment) {
  remove_from_preload();
  if (strcmp(fio_version_string, FIO_VERSION))
    refuse("this is %s, and nvmepf's engine was built for %s: make build where that fio is installed",
           fio_version_string, FIO_VERSION);
  refuse_client(count, words);
  take_over_engines();
  change_options();
  return fio_main(count, words, environment);
}

// The C library starts every program here, with its main; the program's own constructors run inside.
__attribute__((visibility("default"))) int __libc_start_main(main_function *main, int count, char **words,
                                                             void (*initialise)(void), void (*finish)(void),
                                                             void (*finish_linker)(void), void *stack_end) {
  __typeof__(__libc_start_main) *start;

  *(void **)&start = dlsym(RTLD_NEXT, "__libc_start_main");
  if (!start)
    refuse("this C library starts programs in another way: fio cannot be recorded");
  fio_main = main;
  return start(main_after_taking_over, count, words, initialise, finish, finish_linker, stack_end);
}

void nvmepf_unset_option(struct thread_data *td, size_t offset) {
  for (unsigned int i = 0; fio_options[i].name; i++) {
    if (fio_options[i].off1 == offset)
      td->o.set_options[i / 64] &= ~(1ull << (i % 64));
  }
}

void nvmepf_note_foreign_options(struct thread_data *td) {
  static bool told;
  char list[256] = "";
  struct flist_head *entry;

  if (told || !td->io_ops->options || td->io_ops->options == ioengine.options)
    return;
  flist_for_each(entry, &td->opt_list) {
    const char *name = flist_entry(entry, struct print_option, list)->name;
    if (!find_option(td->io_ops->options, name) || strlen(list) + strlen(name) + 3 > sizeof(list))
      continue;
    strcat(list, *list ? ", " : "");
    strcat(list, name);
  }
  if (!*list)
    return;
  told = true;
  nvmepf_note("options of ioengine=%s have no effect on the endpoint: %s", td->io_ops->name + strlen(PREFIX), list);
}
