#!/bin/sh
# embed.sh GENERATOR SOURCE OBJECT SWIFT - run GENERATOR (event-generator) to create events.h beside OBJECT, compile a BPF
# program with it, and write the object into a Swift source as base64.
set -e
headers=$(dirname "$3")
"$1" c "$headers/events.h"
# The toolchain's own clang; that of Debian's Swift lacks the BPF target.
tools=$(dirname "$(readlink -f "$(command -v swift)")")
for clang in "$tools/clang" clang /usr/bin/clang ''; do
  case $("$clang" --print-targets 2>/dev/null) in *' bpf '*) break ;; esac
done
[ -n "$clang" ] || { echo "embed.sh: no clang here compiles for BPF: as root: apt-get install clang" >&2; exit 1; }
"$clang" --target=bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -I "$headers" -c "$2" -o "$3"
# The kernel needs the BTF; nothing needs the DWARF.
strip=$tools/llvm-objcopy
[ ! -x "$strip" ] || "$strip" --strip-debug "$3"
{
  echo "/// bpf/$(basename "$2"), compiled, in base64."
  printf 'let bpfObject: StaticString = "%s"\n' "$(base64 -w 0 "$3")"
} > "$4"
