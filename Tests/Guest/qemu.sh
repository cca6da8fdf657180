#!/bin/bash
# qemu.sh QEMU-OPTION... - QEMU of Debian's trixie-backports, extracted into the cache on first use (15 s, 150 MB):
# nothing is installed, and no privilege is needed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

extract() {
  need dpkg
  say "downloading QEMU (37 MB)"
  rm -rf "$cache/qemu"
  "$guest/debtree.sh" "$cache/qemu" base-files qemu-system-x86 >/dev/null
}
once qemu "$(key_of "$guest/debtree.sh")" extract

root=$cache/qemu
export QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu
exec "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" --argv0 qemu-system-x86_64 \
  "$root/usr/bin/qemu-system-x86_64" \
  -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -L "$root/usr/lib/ipxe/qemu" "$@"
