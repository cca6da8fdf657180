#!/bin/bash
# record-golden.sh [NAME...]
#
# Records the golden traces anew: all, or those named. After `make build`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -gt 0 ] || set -- qd1-read qd32-mixed bring-up errors two-queues sgl commands coalescing reset-in-flight namespaces
for name in "$@"; do
  .build/release/nvmepf golden "$name" -o "traces/$name.nvpt"
  .build/release/nvmepf replay "traces/$name.nvpt"
done
