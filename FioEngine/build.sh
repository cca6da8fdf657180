#!/bin/bash
# build.sh OUTPUT_DIR [SUITE]
#
# Builds the fio engine, OUTPUT_DIR/nvmepf-fio.so, against the headers of the installed fio, or of the fio of another
# Debian, such as trixie: an external engine shares
# fio's structures, so it works only with the version and configuration for which it was compiled. Debian ships no
# headers of fio; the script fetches its source package once into a cache and configures it there. It needs no root and
# leaves apt's configuration and lists alone. Does nothing if the engine is up to date. If the source package cannot be
# fetched, it reports that, leaves no engine, and succeeds: only recording fio needs the engine.
#
# Environment: XDG_CACHE_HOME  where the sources are kept (default ~/.cache)
#              DEB_MIRROR      the Debian mirror (default: this machine's own, from apt)
#              CC              the C compiler (default gcc)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=${1:?usage: build.sh OUTPUT_DIR [SUITE]}
suite=${2:-}
compiler=${CC:-gcc}

say() { echo "fio engine: $*"; }
fail() {
  say "$@" >&2
  exit 1
}

# Without the source there is no engine; one for another fio would misread the structures of this one.
without_engine() {
  rm -f "$engine" "$built_for"
  say "NOT BUILT: $*; \"nvmepf record -- fio\" does not work, everything else does"
  exit
}

engine=$output/nvmepf-fio.so
built_for=$output/nvmepf-fio.version
caches=${XDG_CACHE_HOME:-$HOME/.cache}/nvmepf

# The version in a suite, which is asked for once.
find_version_in() { # SUITE
  local known=$caches/fio-$1.version
  if [ ! -s "$known" ]; then
    cache=$caches/fio-$1
    prepare_apt "$1"
    private_apt update 2>"$cache/apt.log" || without_engine "$mirror has no sources of Debian $1 (see $cache/apt.log)"
    (cd "$cache" && private_apt source --print-uris fio) | sed -n "s|^'[^']*' fio_\(.*\)\.dsc .*|\1|p" >"$known.partial"
    [ -s "$known.partial" ] || without_engine "Debian $1 has no source of fio"
    rm -rf "$cache"
    mv "$known.partial" "$known"
  fi
  version=$(cat "$known")
}

up_to_date() {
  [ -e "$engine" ] && [ "$(cat "$built_for" 2>/dev/null)" = "$version" ] || return
  local input
  for input in "$here"/*.[ch] "$here/build.sh"; do
    [ "$engine" -nt "$input" ] || return
  done
}

# A private apt with its own lists and sources, so that the machine's need no deb-src lines.
private_apt() {
  apt-get -qq \
    -o Dir::State="$cache/apt" -o Dir::State::Lists="$cache/apt/lists" -o Dir::State::status="$cache/apt/status" \
    -o Dir::Cache="$cache/apt/cache" -o Dir::Etc::sourcelist="$cache/apt/sources.list" \
    -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

prepare_apt() { # SUITE
  local codename
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # The URLs that apt would fetch name its mirror, even on a machine without package lists.
  mirror=${DEB_MIRROR:-$(apt-get -o Debug::NoLocking=true update --print-uris |
    sed -n "s|^'\(.*\)/dists/$codename/InRelease'.*|\1|p" | head -n 1)}
  [ -n "$mirror" ] || without_engine "apt knows no mirror for Debian $codename (set DEB_MIRROR)"
  mkdir -p "$cache"/apt/{lists/partial,cache/archives/partial}
  : >"$cache/apt/status"
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main" >"$cache/apt/sources.list"
}

fetch_source() {
  local from=${suite:-$(. /etc/os-release && echo "$VERSION_CODENAME")} mirror
  case $version in *~bpo*) from=${from%-backports}-backports ;; esac
  command -v dpkg-source >/dev/null || fail "dpkg-source is missing: make setup"
  prepare_apt "$from"
  say "fetching the source of fio $version from $mirror"
  {
    private_apt update && (cd "$cache" && private_apt source --download-only "fio=$version")
  } 2>"$cache/apt.log" || without_engine "$mirror has no source of fio $version for $from (see $cache/apt.log)"

  # Use the final name only when complete, so that an interrupted run starts over.
  rm -rf "$tree" "$tree.partial"
  dpkg-source --no-check -x "$cache"/fio_*.dsc "$tree.partial" >/dev/null 2>&1
  mv "$tree.partial" "$tree"
  rm -rf "$cache/apt"
}

# The structures that an engine shares with fio depend on the C library alone, not on the optional libraries that
# configure finds.
configure_source() {
  say "configuring fio $version for its headers"
  (cd "$tree" && ./configure --disable-native --cc="$compiler") >"$cache/configure.log" 2>&1 ||
    fail "fio's configure failed, see $cache/configure.log"
}

compile() {
  local partial=$engine.partial
  say "compiling $engine against fio $version"
  mkdir -p "$output"
  # fio's headers count as the system's, so that every warning is about the engine. BITS_PER_LONG is what fio's Makefile
  # adds to its config-host.h.
  "$compiler" -std=gnu11 -O2 -g -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -D_GNU_SOURCE -DBITS_PER_LONG=64 \
    "-DFIO_VERSION=\"$(fio_name)\"" \
    -include "$tree/config-host.h" -isystem "$tree" -o "$partial" "$here"/*.c -ldl -lpthread
  mv "$partial" "$engine"
  echo "$version" >"$built_for"
}

# What this fio calls itself, and the engine compares: fio- and its upstream version.
fio_name() { if [ -n "$suite" ]; then sed -n 's/^DEF_VER=//p' "$tree/FIO-VERSION-GEN"; else fio --version; fi; }

if [ -n "$suite" ]; then
  find_version_in "$suite"
else
  version=$(dpkg-query --show --showformat '${source:Version}' fio 2>/dev/null) || fail "fio is not installed: make setup"
fi
cache=$caches/fio-$version
tree=$cache/source

up_to_date && exit
[ -d "$tree" ] || fetch_source
[ -e "$tree/config-host.h" ] || configure_source
compile
