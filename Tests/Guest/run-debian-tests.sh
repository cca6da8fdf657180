#!/bin/bash
# run-debian-tests.sh [TEST...] - tests kernel recordings on Debian's kernels 6.12 and 7.x in emulated guests: all tests of
# debian/tests, or the named ones. Needs no privilege. Reports tests that cannot run. Environment: ARCH, the guests'
# architecture (default: this machine's).
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$guest/runner.sh"
tests=("$@")
[ $# -gt 0 ] || mapfile -t tests < <(cd "$guest/debian/tests" && ls -- *.sh | sed 's/\.sh$//')

build_nvmepf
suites=(trixie trixie-backports)
prepared "QEMU" has_qemu || suites=()
for suite in "${suites[@]}"; do
  prepared "Debian's kernel of $suite" "$guest/debian/build.sh" "$suite" || continue
  for test in "${tests[@]}"; do
    run_test "$(cut -d+ -f1 "$cache/$suite$of_arch/version") $test" "$cache/$suite$of_arch" "$guest/debian/tests/$test.sh" \
      "$guest/debian/nvmet.inc" "$guest"/debian/tests/*.sh
  done
done
summary
