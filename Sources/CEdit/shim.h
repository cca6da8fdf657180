// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <editline/readline.h>

// Swift does not touch variables of C that any thread may change: these functions do, on the thread that reads lines.

/// The line as typed so far.
static inline const char *nvmepf_typed_line(void) { return rl_line_buffer ? rl_line_buffer : ""; }

/// The function that finds completions of a word; names of files never complete.
static inline void nvmepf_complete_with(char **(*find)(const char *, int, int)) {
  rl_attempted_completion_function = find;
}

static inline char **nvmepf_completions(const char *word, char *(*next)(const char *, int)) {
  rl_attempted_completion_over = 1;
  return rl_completion_matches(word, next);
}
