#!/bin/bash
# setup.sh
#
# Checks that nvmepf can be built here: a Swift toolchain, which it leaves to you, and Debian packages, of which it
# installs those that are missing. Changes nothing when all is there.
set -euo pipefail

swift_needed=6.2
packages=(
  gcc libc6-dev make binutils pkg-config
  libzstd-dev  # compressed traces
  liburing-dev # files and devices behind namespaces
  libbpf-dev libelf-dev zlib1g-dev # kernel probes
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

check_swift() {
  local version
  command -v swift >/dev/null ||
    fail "Swift $swift_needed or later is needed and there is none: https://www.swift.org/install"
  version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9.]*\).*/\1/p' | head -n 1)
  [ "$(printf '%s\n' "$swift_needed" "${version:-0}" | sort -V | head -n 1)" = "$swift_needed" ] ||
    fail "Swift $swift_needed or later is needed, this is ${version:-unknown}: https://www.swift.org/install"
}

is_installed() { [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_missing() {
  local missing=() package as_root=()
  for package in "${packages[@]}"; do
    is_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0

  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}"
}

check_system
check_swift
install_missing
