#!/bin/bash
# setup.sh
#
# Checks that nvmepf can be built here, and installs missing Debian packages. Does not install the Swift toolchain.
# Changes nothing if nothing is missing.
set -euo pipefail

swift_needed=6.2
packages=(
  gcc g++ libc6-dev make binutils pkg-config git
  curl libedit2 libncurses6 libxml2 # shared libraries of the Swift toolchain; curl brings libcurl under any of its names
  libzstd-dev  # compressed traces
  liburing-dev # files and devices behind namespaces
  libbpf-dev libelf-dev zlib1g-dev # kernel probes
  libedit-dev # lines of the replay debugger
  zstd python3 # the second reader of traces, and the checks of JSON
  fio dpkg-dev # the fio engine, and fio's source package for its headers
)

say() { echo "setup: $*"; }
fail() {
  say "$@" >&2
  exit 1
}

check_system() {
  local id='' version='' name=unknown
  if [ -r /etc/os-release ]; then
    id=$(. /etc/os-release && echo "${ID:-}")
    version=$(. /etc/os-release && echo "${VERSION_ID:-}")
    name=$(. /etc/os-release && echo "${PRETTY_NAME:-unknown}")
  fi
  case $id-$version in
    debian-12 | debian-13) ;;
    *) say "warning: nvmepf is tested on Debian 12 and 13, this is $name" ;;
  esac
  command -v dpkg-query >/dev/null || fail "this is not a Debian system: install the equivalents of ${packages[*]}"
}

where_swift='https://www.swift.org/install'

find_swift() {
  command -v swift >/dev/null || fail "swift is not on PATH; nvmepf needs Swift $swift_needed or later: $where_swift"
}

# After the packages: in a fresh Debian, Swift lacks some of their libraries.
check_swift() {
  local said status=0 version
  said=$(swift --version 2>&1) || status=$?
  [ "$status" = 0 ] || fail "$(command -v swift) does not start (status $status: $(tail -n 1 <<<"$said"));" \
    "repair it or put Swift $swift_needed or later first on PATH: $where_swift"
  version=$(sed -n 's/.*Swift version \([0-9.]*\).*/\1/p' <<<"$said" | head -n 1)
  [ -n "$version" ] || fail "$(command -v swift) --version names no version of Swift; nvmepf needs $swift_needed or later: $where_swift"
  [ "$(printf '%s\n' "$swift_needed" "$version" | sort -V | head -n 1)" = "$swift_needed" ] ||
    fail "$(command -v swift) is Swift $version; nvmepf needs $swift_needed or later: $where_swift"
}

is_installed() { [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_missing() {
  local missing=() package as_root=()
  for package in "${packages[@]}"; do
    is_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0

  local by_hand="as root: apt-get install ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "$by_hand"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  {
    "${as_root[@]}" apt-get update -qq &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}"
  } || fail "apt-get failed; $by_hand"
}

check_system
find_swift
install_missing
check_swift
