// libbpf, and its messages as text.
#ifndef NVMEPF_CBPF_H
#define NVMEPF_CBPF_H

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

// Call `listener` with every message of libbpf from now on. Swift has no type for libbpf_print_fn_t on arm64, because of its
// va_list.
void nvmepf_listen_to_libbpf(void (*listener)(enum libbpf_print_level level, const char *text));

#endif
