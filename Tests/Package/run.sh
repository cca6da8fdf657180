#!/bin/bash
# run.sh [SUITE...]
#
# Installs the packages of .build/debs (make deb) in a fresh Debian of each SUITE (default: bookworm and trixie, Debian 12
# and 13), uses them as an ordinary user without Swift, removes and purges them. Needs root and mmdebstrap, and a Debian
# mirror the first time. Mounts and processes have their own namespaces and end with the script.
#
# Environment: XDG_CACHE_HOME  where the Debian roots are kept, 400 MB each (default ~/.cache)
#              DEB_MIRROR      the Debian mirror (default: mmdebstrap's)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
debs=$here/../../.build/debs
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nvmepf/package

say() { echo "packages: $*"; }
fail() {
  echo "packages: $*" >&2
  exit 1
}

# In one Debian: the half with namespaces of its own.
if [ -n "${PACKAGE_ROOT:-}" ]; then
  root=$PACKAGE_ROOT
  tar -xf "$cache/$1.tar" -C "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  mkdir "$root/packages"
  cp "$debs"/nvmepf_*.deb "$root/packages/"
  fio=$(chroot "$root" dpkg-query --show --showformat '${source:Upstream-Version}' fio)
  cp "$debs"/nvmepf-fio_*+fio"$fio"_*.deb "$root/packages/" 2>/dev/null ||
    say "NOT RUN: fio on $1, whose fio $fio has no nvmepf-fio in .build/debs"
  cp "$here/use.sh" "$root/packages/"
  chroot "$root" env -i LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin /packages/use.sh
  exit
fi

ls "$debs"/nvmepf_*.deb >/dev/null 2>&1 || fail "there are no packages in .build/debs: make deb"
if [ "$(id -u)" != 0 ] || ! command -v mmdebstrap >/dev/null; then
  say "NOT RUN: needs root and mmdebstrap (apt-get install mmdebstrap)"
  exit
fi
mkdir -p "$cache"
[ $# -gt 0 ] || set -- bookworm trixie
for suite; do
  if [ ! -e "$cache/$suite.tar" ]; then
    say "making a Debian $suite with mmdebstrap"
    mmdebstrap --variant=minbase --include=ca-certificates,fio,man-db,bash-completion,file,systemd "$suite" \
      "$cache/$suite.partial.tar" ${DEB_MIRROR:+"$DEB_MIRROR"} >"$cache/$suite.log" 2>&1 ||
      { tail -n 5 "$cache/$suite.log" >&2; fail "no Debian $suite: see $cache/$suite.log"; }
    mv "$cache/$suite.partial.tar" "$cache/$suite.tar"
  fi
  begin=$SECONDS
  root=$(mktemp -d)
  PACKAGE_ROOT=$root unshare --mount --propagation private --pid --fork --kill-child "$0" "$suite" || failed=$suite
  rm -rf --one-file-system "$root"
  [ -z "${failed:-}" ] || fail "failed on $suite"
  say "passed on $suite ($((SECONDS - begin)) s)"
done
