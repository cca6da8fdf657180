#!/bin/bash
# qemu.sh QEMU-OPTION... - QEMU of Debian's trixie-backports for the guests' architecture, extracted into the cache on first use (15 s,
# 150 MB): nothing is installed, and no privilege is needed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
case $arch in
  amd64) package=qemu-system-x86 program=qemu-system-x86_64 ;;
  arm64) package=qemu-system-arm program=qemu-system-aarch64 ;;
  *) fail "there are no guests for $arch" ;;
esac
root=$cache/qemu$of_arch

extract() {
  need dpkg
  rm -rf "$root"
  "$guest/debtree.sh" "$root" base-files "$package" >/dev/null
}
once "qemu$of_arch" "$(key_of "$guest/debtree.sh")" extract

export QEMU_MODULE_DIR=$root/usr/lib/$(triple_of "$native")/qemu
exec "$root$(loader_of "$native")" --library-path "$root/usr/lib/$(triple_of "$native")" --argv0 "$program" \
  "$root/usr/bin/$program" \
  -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -L "$root/usr/lib/ipxe/qemu" "$@"
