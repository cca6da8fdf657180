#!/bin/sh
# embed.sh SOURCE OBJECT SWIFT - compiles a BPF program and writes it into a Swift source, as base64.
set -e
# The toolchain's own clang; another one may lack the BPF target.
clang=$(dirname "$(readlink -f "$(command -v swift)")")/clang
[ -x "$clang" ] || clang=clang
"$clang" --target=bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -c "$1" -o "$2"
# The kernel needs the BTF, nobody the DWARF.
strip=$(dirname "$clang")/llvm-objcopy
[ ! -x "$strip" ] || "$strip" --strip-debug "$2"
{
  echo "/// bpf/$(basename "$1"), compiled, in base64."
  printf 'let bpfObject: StaticString = "%s"\n' "$(base64 -w 0 "$2")"
} > "$3"
