#!/bin/bash
# build.sh - builds a small kernel with nvme, nvmet, the real nvmet-pci-epf, the PCI endpoint framework and BTF from Debian's
# kernel source package, and a guest for it: about 12 minutes on 2 cores and 4 GB once, kept in the cache. Then builds vepc and
# a copy of the driver with faults, in ten seconds.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
here=$guest/kernel package=linux-source-7.3 out=$cache/kernel
build=$out/build

compile() {
  need gcc make binutils flex bison bc libelf-dev libssl-dev pahole kmod rsync xz-utils
  rm -rf "$out/source" "$build"
  mkdir -p "$out/source"
  say "downloading $package (160 MB)"
  DEB_STATE=$cache/apt-trixie-backports SUITES="trixie trixie-backports" \
    "$guest/debtree.sh" --no-deps "$out/package" "$package" >/dev/null
  say "unpacking it (1.8 GB)"
  tar -xJf "$out/package/usr/src/$package.tar.xz" -C "$out/source" --strip-components=1
  rm -rf "$out/package"
  make -s -C "$out/source" O="$build" KCONFIG_ALLCONFIG="$here/kernel.config" allnoconfig
  say "compiling the kernel, some 12 minutes on 2 cores"
  # About 2900 objects: a line for every 300.
  make -C "$out/source" O="$build" -j"$(nproc)" bzImage modules 2>"$out/build.err" |
    awk '/ CC | AR | LD /{ if (++n % 300 == 0) { print "guest: " n " of about 2900 objects"; fflush() } }' ||
    { tail -20 "$out/build.err" >&2; fail "the kernel does not compile"; }
}

# break_driver - build a copy of the driver with the faults of broken/fault.h, which broken/plant.sed inserts.
break_driver() {
  local folder=$out/broken
  rm -rf "$folder"
  mkdir -p "$folder"
  cp "$here/broken/Makefile" "$here/broken/fault.h" "$folder/"
  sed -f "$here/broken/plant.sed" "$out/source/drivers/nvme/target/pci-epf.c" >"$folder/pci-epf.c"
  [ "$(grep -c 'strikes\|silenced' "$folder/pci-epf.c")" = 9 ] || fail "plant.sed does not find all its places in this driver"
  make -s -C "$build" M="$folder" modules >"$out/broken.log" 2>&1 ||
    { cat "$out/broken.log" >&2; fail "the broken driver does not compile"; }
  strip --strip-debug "$folder/nvmet-pci-epf.ko"
}

assemble() {
  local version fs=$out/modules
  version=$(cat "$build/include/config/kernel.release")
  break_driver
  make -s -C "$guest/kernel/vepc" KDIR="$build" MO="$out/vepc" >"$out/vepc.log" 2>&1 ||
    { cat "$out/vepc.log" >&2; fail "vepc does not compile"; }
  rm -rf "$fs"
  make -s -C "$build" modules_install INSTALL_MOD_PATH="$fs/usr" INSTALL_MOD_STRIP=1 >/dev/null
  mkdir -p "$fs/usr/lib/modules/$version/extra"
  cp "$out/vepc/vepc.ko" "$fs/usr/lib/modules/$version/extra/"
  # In a directory that modprobe does not search.
  mkdir -p "$fs/usr/lib/broken"
  cp "$out/broken/nvmet-pci-epf.ko" "$fs/usr/lib/broken/"
  rm -f "$fs/usr/lib/modules/$version"/{build,source}
  depmod -b "$fs/usr" "$version"
  # An initramfs may be several archives: Debian's guest, and this kernel's modules.
  (cd "$fs" && find . | cpio --quiet -o -H newc -R 0:0) | cat "$cache/trixie-backports/initrd.cpio" - >"$out/initrd.cpio"
  cp "$build/arch/x86/boot/bzImage" "$out/vmlinuz"
  say "kernel $version with nvmet-pci-epf, $(du -m "$out/initrd.cpio" | cut -f1) MB initramfs"
}

"$guest/debian/build.sh" trixie-backports
mkdir -p "$out"
once kernel-build "$(key_of "$here/kernel.config" <(echo "$package"))" compile
once kernel "$(key_of "$here/build.sh" "$here/vepc/vepc.c" "$here"/broken/* "$cache/trixie-backports.done" "$cache/kernel-build.done")" assemble
