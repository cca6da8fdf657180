#!/bin/bash
# run.sh [--seconds N] [TARGET...]
#
# Fuzzes the readers of untrusted input with the toolchain's libFuzzer and address sanitizer: all targets, or those
# named, each for N seconds (default 20) from its corpus. Exit status 1 if one finds a fault; its input is in
# Tests/Fuzz/findings/. With --merge it adds minimised inputs with new coverage to a target's corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
seconds=20 merge='' targets=()
all=(engine datapointer configuration vfiouser trace kernel expression faults)
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=$2; shift 2 ;;
    --merge) merge=yes; shift ;;
    -*) echo "run.sh: unknown option $1" >&2; exit 2 ;;
    *) targets+=("$1"); shift ;;
  esac
done
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")

build=$PWD/.build-fuzz
echo "building the fuzzed library"
# An archive keeps members whose sources are gone.
rm -f "$build/release/libFuzz.a"
# Package.swift has the flags for Swift.
NVMEPF_FUZZ=1 swift build --scratch-path "$build" --product Fuzz -c release -Xcc -fsanitize=address 2>&1 |
  grep -E 'error|Compiling|Build' | tail -1
library=$build/release/libFuzz.a

# The entry points of a target. Traces are mutated behind their checksums; every fourth time as any bytes are.
glue() {
  cat <<C
#include <stddef.h>
#include <stdint.h>
int fuzz_$1(const uint8_t *, long);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return fuzz_$1(data, (long)size); }
C
  [ "$1" = trace ] || return 0
  cat <<C
size_t LLVMFuzzerMutate(uint8_t *, size_t, size_t);
long fuzz_trace_mutate(uint8_t *, long, long, uint32_t);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  long length = seed % 4 ? fuzz_trace_mutate(data, (long)size, (long)max, seed) : 0;
  return length > 0 ? (size_t)length : LLVMFuzzerMutate(data, size, max);
}
C
}

failed=0
for target in "${targets[@]}"; do
  corpus=Tests/Fuzz/corpus/$target
  # The trace target also starts from the golden traces, which are larger.
  length=4096 seeds=()
  if [ "$target" = trace ]; then length=32768 seeds=(traces); fi
  mkdir -p "$corpus" "$build/found-$target" Tests/Fuzz/findings
  glue "$target" >"$build/$target.c"
  clang -c -o "$build/$target.o" "$build/$target.c"
  swiftc -sanitize=fuzzer,address -o "$build/fuzz-$target" "$build/$target.o" "$library" -lzstd -luring 2>&1 | { grep -v "ld.gold: warning" || true; }
  export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
  if [ -n "$merge" ]; then
    mkdir -p "$build/merged-$target"
    rm -f "$build/merged-$target"/*
    "$build/fuzz-$target" -merge=1 -max_len="$length" "$build/merged-$target" "$corpus" "$build/found-$target" 2>&1 | tail -1
    rm -f "$corpus"/*
    # The smallest that are needed, and not too many of them.
    ls -Sr "$build/merged-$target" | sed -n 1,150p | while read -r name; do cp "$build/merged-$target/$name" "$corpus"; done
    echo "$target: $(ls "$corpus" | wc -l) inputs, $(du -sb "$corpus" | cut -f1) bytes"
    continue
  fi
  if "$build/fuzz-$target" -max_total_time="$seconds" -max_len="$length" -timeout=20 -rss_limit_mb=2048 \
    -artifact_prefix=Tests/Fuzz/findings/ -print_final_stats=1 "$build/found-$target" "$corpus" "${seeds[@]}" >"$build/$target.log" 2>&1; then
    echo "$target: $(sed -n 's/.*stat::number_of_executed_units: *//p' "$build/$target.log") inputs in $seconds s, nothing found; $(grep -o 'cov: [0-9]*' "$build/$target.log" | tail -1)"
  else
    failed=1
    echo "$target: FOUND SOMETHING"
    grep -E 'Fatal error|ERROR:|SUMMARY|Test unit written|precondition' "$build/$target.log" | head -6
  fi
done
exit $failed
