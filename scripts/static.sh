#!/bin/bash
# static.sh OUTPUT [PROGRAM] - build nvmepf, or another program of the package, for machines without Swift and its
# libraries: it needs only the shared C and C++ libraries that every Linux has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
output=${1:?usage: static.sh OUTPUT [PROGRAM]}
program=${2:-nvmepf}

# A directory with only the archives, searched first: the linker prefers a shared library only if it finds both.
archives=$PWD/.build/archives
mkdir -p "$archives"
for library in bpf elf z zstd uring edit tinfo bsd md; do
  archive=$(gcc -print-file-name="lib$library.a")
  [ -f "$archive" ] || { echo "static.sh: lib$library.a is missing: run make setup" >&2; exit 1; }
  ln -sf "$archive" "$archives/"
done
for library in bpf zstd edit; do
  printf 'Name: lib%s\nDescription: as an archive\nVersion: 1\nLibs: -L%s -l%s\n' "$library" "${archives// /\\ }" "$library" \
    >"$archives/lib$library.pc"
done

# Do not relink the nvmepf in .build that others use.
PKG_CONFIG_PATH=$archives swift build -c release --scratch-path .build-static --product "$program" --static-swift-stdlib \
  -Xlinker -lelf -Xlinker -lz -Xlinker -ltinfo -Xlinker -lbsd -Xlinker -lmd
mkdir -p "$(dirname "$output")"
cp ".build-static/release/$program" "$output.new"
strip "$output.new"
mv "$output.new" "$output"
echo "$output: $(du -h "$output" | cut -f1), needs $(ldd "$output" | awk '{ print $1 }' | grep -v -e vdso -e ld-linux | xargs)"
