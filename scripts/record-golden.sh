#!/bin/bash
# record-golden.sh [NAME...]
#
# Records the golden traces again: all, or those named. Run `make build` first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -gt 0 ] || set -- qd1-read qd32-mixed bring-up errors two-queues sgl commands coalescing reset-in-flight namespaces state-hashes
for name in "$@"; do
  .build/release/record-golden "$name" "traces/$name.nvpt"
  .build/release/nvmepf replay "traces/$name.nvpt"
done
