#!/bin/bash
# build.sh SUITE - builds a guest from Debian packages: the kernel of trixie (6.12) or of trixie-backports (7.x), busybox, fio,
# nvme-cli, bpftool, setpriv and the NVMe modules. Writes vmlinuz and initrd.cpio into the cache; takes a minute and 300 MB once.
# Needs no privilege.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
suite=${1:?usage: build.sh trixie|trixie-backports}
name=$suite$of_arch
root=$cache/$name/root out=$cache/$name
triple=$(triple_of "$arch") emulator=$(emulator)
tools=(/usr/bin/fio /usr/sbin/nvme /usr/sbin/bpftool /usr/bin/setpriv)
modules=(nvme nvme-core nvme-fabrics nvme-tcp nvmet nvme-loop nvmet-tcp null_blk configfs 9p 9pnet_virtio virtio_net virtio_pci)
export DEB_STATE=$cache/apt-$name DEB_ARCH=$arch SUITES=trixie
[ "$suite" = trixie ] || SUITES="trixie $suite"

loader=$root$(loader_of "$arch")
libraries=$root/usr/lib/$triple:$root/usr/lib/$triple/ceph

# in_tree NAME FILE ARGUMENT... - run a program of the extracted tree with that tree's loader and libraries.
# (ceph: librados has an absolute search path, which would find this machine's.)
in_tree() {
  local name=$1 file=$2
  shift 2
  $emulator "$loader" --library-path "$libraries" --argv0 "$name" "$file" "$@"
}

download() {
  say "downloading Debian's $suite guest for $arch"
  rm -rf "$root"
  "$guest/debtree.sh" "$root" base-files busybox-static kmod util-linux fio nvme-cli bpftool >/dev/null
  # linux-image-amd64, for example, depends on the kernel's package: one in 6.12, three in 7.x.
  "$guest/debtree.sh" --no-deps "$root" "linux-image-$arch" >/dev/null
  local meta version packages
  meta=$(ls -t "$DEB_STATE"/cache/archives/"linux-image-$arch"_*.deb | head -1)
  version=$(dpkg-deb -f "$meta" Depends | grep -o "linux-image-[^ ,]*-$arch " | sed 's/^linux-image-//; s/ $//' | head -1)
  packages=("linux-image-$version")
  case $suite in *backports) packages=("linux-binary-$version" "linux-modules-$version" "linux-base-$version") ;; esac
  "$guest/debtree.sh" --no-deps "$root" "${packages[@]}" >/dev/null
  echo "$version" >"$out/version"
}

# builtin MODULE - whether the kernel has it without a module.
builtin() { grep -qE "/${1//[-_]/[-_]}\.ko\$" "$mods/modules.builtin" || fail "the kernel has no $1"; }

assemble() {
  local version fs=$out/initrd mods tool library module
  version=$(cat "$out/version")
  mods=$root/usr/lib/modules/$version
  [ -e "$mods/modules.dep" ] || in_tree depmod "$root/usr/bin/kmod" -b "$root" "$version"
  rm -rf "$fs"
  mkdir -p "$fs"/{bin,dev,etc,host,proc,root,run,sys,tmp,usr/{bin,sbin,"lib/$triple",lib64},"usr/lib/modules/$version"}
  ln -s usr/lib "$fs/lib"
  ln -s usr/lib64 "$fs/lib64"
  ln -s bin "$fs/sbin"
  cp "$root/usr/bin/busybox" "$fs/bin/busybox"
  $emulator "$fs/bin/busybox" --list | while read -r tool; do [ -e "$fs/bin/$tool" ] || ln -s busybox "$fs/bin/$tool"; done
  cp -L "$loader" "$fs$(loader_of "$arch")"
  for tool in "${tools[@]}"; do
    cp "$root$tool" "$fs$tool"
    $emulator "$loader" --library-path "$libraries" --list "$root$tool" | awk '$2 == "=>" { print $3 }'
  done | sort -u | while read -r library; do
    case $library in "$root"/*) ;; *) fail "library from outside the tree: $library" ;; esac
    cp -L "$library" "$fs/usr/lib/$triple/"
  done
  # Required by nvmepf.
  for library in libm.so.6 libgcc_s.so.1 libstdc++.so.6; do
    cp -L "$root/usr/lib/$triple/$library" "$fs/usr/lib/$triple/"
  done
  # The modules and what they depend on, decompressed: xz is slow under emulation.
  for module in "${modules[@]}"; do
    grep -E "(^|/)${module//[-_]/[-_]}\.ko(\.xz)?:" "$mods/modules.dep" | tr -d : | tr ' ' '\n' || builtin "$module"
  done | sort -u | while read -r module; do
    mkdir -p "$fs/usr/lib/modules/$version/$(dirname "$module")"
    case $module in
      *.xz) xz -dc "$mods/$module" >"$fs/usr/lib/modules/$version/${module%.xz}" ;;
      *) cp "$mods/$module" "$fs/usr/lib/modules/$version/$module" ;;
    esac
  done
  cp "$mods"/modules.{builtin,builtin.modinfo,order} "$fs/usr/lib/modules/$version/"
  in_tree depmod "$root/usr/bin/kmod" -b "$fs" "$version"
  install -m 755 "$guest/init" "$fs/init"
  (cd "$fs" && find . | cpio --quiet -o -H newc -R 0:0) >"$out/initrd.cpio"
  cp "$(ls "$mods/vmlinuz" "$root/boot/vmlinuz-$version" 2>/dev/null | head -1)" "$out/vmlinuz"
  rm -rf "$fs"
  say "kernel $version, $(du -m "$out/initrd.cpio" | cut -f1) MB initramfs"
}

need cpio xz-utils kmod dpkg
mkdir -p "$out"
once "$name-packages" "$(key_of "$guest/debtree.sh" <(printf '%s' "${tools[*]}"))" download
once "$name" "$(key_of "$0" "$guest/init" "$out/version")" assemble
