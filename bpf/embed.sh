#!/bin/sh
# embed.sh HEADERS SOURCE OBJECT SWIFT - compile a BPF program, with the generated headers of the folder HEADERS, and write it
# into a Swift source, as base64.
set -e
# The toolchain's own clang; another one may lack the BPF target.
clang=$(dirname "$(readlink -f "$(command -v swift)")")/clang
[ -x "$clang" ] || clang=clang
"$clang" --target=bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -I "$1" -c "$2" -o "$3"
# The kernel needs the BTF, nobody the DWARF.
strip=$(dirname "$clang")/llvm-objcopy
[ ! -x "$strip" ] || "$strip" --strip-debug "$3"
{
  echo "/// bpf/$(basename "$2"), compiled, in base64."
  printf 'let bpfObject: StaticString = "%s"\n' "$(base64 -w 0 "$3")"
} > "$4"
