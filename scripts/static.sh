#!/bin/bash
# static.sh OUTPUT [PROGRAM] - build nvmepf, or another program of the package, for machines without Swift and its
# libraries: it needs only the shared C and C++ libraries that every Linux has.
# Environment: ARCH (default: this machine's): amd64 or arm64; for arm64, amd64 builds with cross.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
output=${1:?usage: static.sh OUTPUT [PROGRAM]}
program=${2:-nvmepf}
native=$(dpkg --print-architecture)
arch=${ARCH:-$native}

case $native-$arch in
  amd64-amd64 | arm64-arm64) scratch=.build-static among=() options=() sysroot= strip=strip ;;
  amd64-arm64)
    among=(scripts/cross.sh) scratch=.build-static-arm64 strip=llvm-objcopy
    # Prepares it, where that takes long: the rest is a matter of minutes.
    scripts/cross.sh
    sysroot=$(scripts/cross.sh sh -c 'echo "$CROSS_SYSROOT"')
    options=(--triple aarch64-unknown-linux-gnu --swift-sdk nvmepf-arm64
      --swift-sdks-path "$(scripts/cross.sh sh -c 'echo "$CROSS_SDKS"')")
    ;;
  *) echo "static.sh: a build for $arch on $native is not known" >&2; exit 1 ;;
esac

# A directory with only the archives, searched first: the linker prefers a shared library only if it finds both.
archives=$PWD/.build/archives-$arch
mkdir -p "$archives"
for library in bpf elf z zstd uring edit tinfo bsd md; do
  if [ -n "$sysroot" ]; then archive=$sysroot/usr/lib/aarch64-linux-gnu/lib$library.a; else
    archive=$(gcc -print-file-name="lib$library.a")
  fi
  [ -f "$archive" ] || { echo "static.sh: lib$library.a is missing: run make setup" >&2; exit 1; }
  ln -sf "$archive" "$archives/"
done
package() { # NAME LIBRARY...
  printf 'Name: %s\nDescription: as an archive\nVersion: 1\nLibs: -L%s %s\n' "$1" "${archives// /\\ }" "${*:2}" >"$archives/$1.pc"
}
package libzstd -lzstd
package libedit -ledit -ltinfo -lbsd -lmd

# Do not relink the nvmepf in .build that others use.
export PKG_CONFIG_PATH=$archives
"${among[@]}" swift build -c release --scratch-path "$scratch" --product "$program" --static-swift-stdlib "${options[@]}"
mkdir -p "$(dirname "$output")"
cp "$scratch/release/$program" "$output.new"
"${among[@]}" "$strip" --strip-all "$output.new"
mv "$output.new" "$output"
echo "$output: $(du -h "$output" | cut -f1) for $arch, needs $(objdump -p "$output" | awk '$1 == "NEEDED" { print $2 }' | grep -v ld-linux | xargs)"
