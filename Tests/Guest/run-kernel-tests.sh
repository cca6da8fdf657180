#!/bin/bash
# run-kernel-tests.sh [TEST...] - the recorder on the real, unmodified nvmet-pci-epf, in an emulated guest whose kernel is
# built on the first run (12 minutes on 2 cores) and cached: all tests of kernel/tests, or the named ones.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$guest/runner.sh"
tests=("$@")
[ $# -gt 0 ] || mapfile -t tests < <(cd "$guest/kernel/tests" && ls -- *.sh | sed 's/\.sh$//')

if prepared "QEMU" has_qemu && prepared "nvmet-pci-epf's kernel" "$guest/kernel/build.sh"; then
  build_nvmepf
  for test in "${tests[@]}"; do
    script=$guest/kernel/tests/$test.sh
    SMP=$(sed -n 's/^# SMP=//p' "$script") PARAMETERS='memmap=16M$0x20000000' \
      run_test "nvmet-pci-epf $test" "$cache/kernel" "$script" "$guest/kernel/vepc.inc"
  done
fi
summary
