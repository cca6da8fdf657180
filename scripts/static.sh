#!/bin/bash
# static.sh OUTPUT [PROGRAM] - build nvmepf, or another program of the package, so that it runs on a machine with no Swift
# and none of its libraries: of shared libraries it needs only the C and C++ ones that every Linux has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
output=${1:?usage: static.sh OUTPUT [PROGRAM]}
program=${2:-nvmepf}

# A folder with the archives alone, where the linker looks first: it prefers a shared library only where it finds both.
archives=$PWD/.build/archives
mkdir -p "$archives"
for library in bpf elf z zstd uring; do
  archive=$(gcc -print-file-name="lib$library.a")
  [ -f "$archive" ] || { echo "static.sh: there is no lib$library.a: make setup" >&2; exit 1; }
  ln -sf "$archive" "$archives/"
done
for library in bpf zstd; do
  printf 'Name: lib%s\nDescription: as an archive\nVersion: 1\nLibs: -L%s -l%s\n' "$library" "${archives// /\\ }" "$library" \
    >"$archives/lib$library.pc"
done

# The version of nvmepf in .build that others use stays linked as it was.
PKG_CONFIG_PATH=$archives swift build -c release --scratch-path .build-static --product "$program" --static-swift-stdlib \
  -Xlinker -lelf -Xlinker -lz
mkdir -p "$(dirname "$output")"
cp ".build-static/release/$program" "$output.new"
strip "$output.new"
mv "$output.new" "$output"
echo "$output: $(du -h "$output" | cut -f1), needs $(ldd "$output" | awk '{ print $1 }' | grep -v -e vdso -e ld-linux | xargs)"
