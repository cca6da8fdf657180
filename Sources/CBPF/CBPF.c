// SPDX-License-Identifier: Apache-2.0
#include "CBPF.h"

#include <stdio.h>
#include <stdlib.h>

// The verifier's log may be long, and its reason comes last. Unwritten memory costs nothing.
enum { text_bytes = 16 << 20 };

static void (*listener_)(enum libbpf_print_level level, const char *text);

static int pass(enum libbpf_print_level level, const char *format, va_list arguments) {
  char *text = malloc(text_bytes);
  if (text == NULL) return 0;
  vsnprintf(text, text_bytes, format, arguments);
  listener_(level, text);
  free(text);
  return 0;
}

void nvmepf_listen_to_libbpf(void (*listener)(enum libbpf_print_level level, const char *text)) {
  listener_ = listener;
  libbpf_set_print(pass);
}
