#!/bin/bash
# deb.sh OUTPUT [SUITE...]
#
# Packages what `make installable` built, by debhelper: OUTPUT/nvmepf_VERSION-1_ARCH.deb, and for the fio of each SUITE
# (default: bookworm and trixie, Debian 12 and 13) OUTPUT/nvmepf-fio_VERSION-1+fioFIO_ARCH.deb. An engine that cannot be built,
# because the mirror lacks that fio's source, is left out and named.
#
# Environment: BUILT, PAGES  as for install.sh
#              ARCH          Debian's name of the architecture of BUILT (default: this machine's)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
output=${1:?usage: deb.sh OUTPUT [SUITE...]}
shift
[ $# -gt 0 ] || set -- bookworm trixie
built=$(realpath "${BUILT:-.build/static}")
pages=$(realpath "${PAGES:-$built}")
source=$PWD
version=$(scripts/version.sh)
architecture=${ARCH:-$(dpkg --print-architecture)}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

for tool in dh lintian; do
  command -v $tool >/dev/null || { echo "deb.sh: $tool is missing: apt-get install debhelper lintian" >&2; exit 1; }
done
for file in nvmepf libnvmepf-host.so; do
  [ -e "$built/$file" ] || { echo "deb.sh: $built/$file is missing: make installable" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# package SUITE ENGINE-FOLDER PACKAGE... - build these packages in a tree of their own.
package() {
  local suite=$1 engine=$2 fio next upstream
  shift 2
  fio=$(cat "$engine/nvmepf-fio.version" 2>/dev/null || echo 0)
  upstream=${fio%-*}
  # The next version of the same length: 3.33 -> 3.34~.
  next=${upstream%.*}.$((${upstream##*.} + 1))~
  mkdir -p "$work/$suite/tree" "$work/$suite/built"
  cp -r packaging/debian "$work/$suite/tree/debian"
  ln -s "$built"/{nvmepf,libnvmepf-host.so} "$work/$suite/built/"
  [ ! -e "$engine/nvmepf-fio.so" ] || ln -s "$(realpath "$engine/nvmepf-fio.so")" "$work/$suite/built/"
  cat >"$work/$suite/tree/debian/changelog" <<END
nvmepf ($version-1) unstable; urgency=medium

  * See /usr/share/doc/nvmepf/CHANGELOG.md.

 -- $(sed -n 's/^Maintainer: //p' packaging/debian/control)  $(date --utc --rfc-email --date "@$SOURCE_DATE_EPOCH")
END
  (
    cd "$work/$suite/tree"
    eval "$(dpkg-architecture --host-arch "$architecture" --force --print-set 2>/dev/null)"
    export NVMEPF_SOURCE=$source BUILT=$work/$suite/built PAGES=$pages
    export NVMEPF_FIO_VERSION=$version-1+fio$upstream NVMEPF_FIO_DEPENDS="fio (>= $upstream), fio (<< $next)"
    export DH_OPTIONS=$(printf -- '-p%s ' "$@")
    debian/rules binary >"$work/$suite.log" 2>&1
  ) || {
    tail -n 30 "$work/$suite.log" >&2
    echo "deb.sh: packaging $* failed" >&2
    exit 1
  }
  mv "$work/$suite"/*.deb "$output/"
}

mkdir -p "$output"
rm -f "$output"/*.deb
package program /nowhere nvmepf
for suite; do
  FioEngine/build.sh "$work/engine-$suite" "$suite"
  [ -e "$work/engine-$suite/nvmepf-fio.so" ] || { echo "deb.sh: NO nvmepf-fio for $suite" >&2; continue; }
  package "$suite" "$work/engine-$suite" nvmepf-fio
done

lintian --allow-root --fail-on error,warning "$output"/*.deb
(cd "$output" && du -h ./*.deb)
