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

// An instruction takes three cycles and one can start each cycle, so three runs of `lane_bytes` are digested in
// parallel. Joining them needs the CRC of a run followed by `lane_bytes` zeros, which is linear in the CRC: four table
// lookups, one per byte. Three runs nearly fill 512 bytes, the smallest logical block: most payloads are small.
enum { lane_bytes = 168 };

static uint32_t byte_table[256];
static uint32_t shift_table[4][256];

__attribute__((constructor)) static void make_tables(void) {
  for (uint32_t n = 0; n < 256; n++) {
    uint32_t crc = n;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? polynomial : 0);
    byte_table[n] = crc;
  }
  for (int byte = 0; byte < 4; byte++) {
    for (uint32_t n = 0; n < 256; n++) {
      uint32_t crc = n << (8 * byte);
      for (int zeros = 0; zeros < lane_bytes; zeros++) crc = (crc >> 8) ^ byte_table[crc & 0xff];
      shift_table[byte][n] = crc;
    }
  }
}

static inline uint64_t load64(const uint8_t *bytes) {
  uint64_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

static inline uint32_t shift(uint32_t crc) {
  return shift_table[0][crc & 0xff] ^ shift_table[1][(crc >> 8) & 0xff] ^ shift_table[2][(crc >> 16) & 0xff] ^
         shift_table[3][crc >> 24];
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

CRC_TARGET static uint32_t crc32c_instructions(uint32_t crc, const uint8_t *bytes, size_t length) {
  while (length >= 3 * lane_bytes) {
    uint32_t second = 0, third = 0;
    for (size_t i = 0; i < lane_bytes; i += 8) {
      crc = crc_step64(crc, load64(bytes + i));
      second = crc_step64(second, load64(bytes + lane_bytes + i));
      third = crc_step64(third, load64(bytes + 2 * lane_bytes + i));
    }
    crc = shift(shift(crc) ^ second) ^ third;
    bytes += 3 * lane_bytes;
    length -= 3 * lane_bytes;
  }
  for (; length >= 8; length -= 8, bytes += 8) crc = crc_step64(crc, load64(bytes));
  for (; length > 0; length--) crc = crc_step8(crc, *bytes++);
  return crc;
}

uint32_t nvmepf_crc32c(uint32_t crc, const void *bytes, size_t length) {
  crc = ~crc;
  crc = crc_available() ? crc32c_instructions(crc, bytes, length) : crc32c_table(crc, bytes, length);
  return ~crc;
}
