// SPDX-License-Identifier: Apache-2.0
#include "CPlatform.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

// The reflected Castagnoli polynomial.
static const uint32_t polynomial = 0x82f63b78;

// An instruction takes three cycles and one can start each cycle, so three runs are digested in parallel. Joining them
// needs the CRC of a run followed by as many zeros as the next run has bytes, which is linear in the CRC: four table
// lookups, one per byte. Three long runs nearly fill 4096 bytes, three short ones nearly 512: the sizes of logical blocks.
enum { long_run = 1360, short_run = 168 };

typedef uint32_t shift_table[4][256];

static uint32_t byte_table[256];
static shift_table long_shift, short_shift;

static void make_shift(shift_table table, int zeros) {
  for (int byte = 0; byte < 4; byte++) {
    for (uint32_t n = 0; n < 256; n++) {
      uint32_t crc = n << (8 * byte);
      for (int zero = 0; zero < zeros; zero++) crc = (crc >> 8) ^ byte_table[crc & 0xff];
      table[byte][n] = crc;
    }
  }
}

__attribute__((constructor)) static void make_tables(void) {
  for (uint32_t n = 0; n < 256; n++) {
    uint32_t crc = n;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? polynomial : 0);
    byte_table[n] = crc;
  }
  make_shift(long_shift, long_run);
  make_shift(short_shift, short_run);
}

static inline uint64_t load64(const uint8_t *bytes) {
  uint64_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

static inline uint32_t shift(shift_table table, uint32_t crc) {
  return table[0][crc & 0xff] ^ table[1][(crc >> 8) & 0xff] ^ table[2][(crc >> 16) & 0xff] ^ table[3][crc >> 24];
}

static uint32_t crc32c_table(uint32_t crc, const uint8_t *bytes, size_t length) {
  for (; length > 0; length--) crc = (crc >> 8) ^ byte_table[(crc ^ *bytes++) & 0xff];
  return crc;
}

#if defined(__x86_64__)
#define CRC_TARGET __attribute__((target("sse4.2")))
#define crc_step64(crc, value) ((uint32_t)_mm_crc32_u64((crc), (value)))
#define crc_step8(crc, value) _mm_crc32_u8((crc), (value))
static bool crc_available(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__)
#define CRC_TARGET __attribute__((target("crc")))
#define crc_step64(crc, value) __crc32cd((crc), (value))
#define crc_step8(crc, value) __crc32cb((crc), (value))
static bool crc_available(void) { return getauxval(AT_HWCAP) & HWCAP_CRC32; }
#endif

// Three adjacent runs of `run` bytes.
CRC_TARGET static inline uint32_t crc32c_runs(uint32_t crc, const uint8_t *bytes, size_t run, shift_table table) {
  uint32_t second = 0, third = 0;
  for (size_t i = 0; i < run; i += 8) {
    crc = crc_step64(crc, load64(bytes + i));
    second = crc_step64(second, load64(bytes + run + i));
    third = crc_step64(third, load64(bytes + 2 * run + i));
  }
  return shift(table, shift(table, crc) ^ second) ^ third;
}

CRC_TARGET static uint32_t crc32c_instructions(uint32_t crc, const uint8_t *bytes, size_t length) {
  for (; length >= 3 * long_run; length -= 3 * long_run, bytes += 3 * long_run)
    crc = crc32c_runs(crc, bytes, long_run, long_shift);
  for (; length >= 3 * short_run; length -= 3 * short_run, bytes += 3 * short_run)
    crc = crc32c_runs(crc, bytes, short_run, short_shift);
  for (; length >= 8; length -= 8, bytes += 8) crc = crc_step64(crc, load64(bytes));
  for (; length > 0; length--) crc = crc_step8(crc, *bytes++);
  return crc;
}

uint32_t nvmepf_crc32c(uint32_t crc, const void *bytes, size_t length) {
  crc = ~crc;
  crc = crc_available() ? crc32c_instructions(crc, bytes, length) : crc32c_table(crc, bytes, length);
  return ~crc;
}
