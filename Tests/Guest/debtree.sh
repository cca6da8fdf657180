#!/bin/bash
# debtree.sh [--no-deps] ROOT PACKAGE...
#
# Extracts Debian packages, with their dependency closure, into the plain
# folder ROOT. Nothing is installed: no maintainer script runs, the machine's
# own dpkg and apt state is only read. The last of $SUITES is preferred, so with
# the default a package comes from backports where backports has it.
#
# Environment: DEB_STATE  apt lists and downloaded .debs (default: apt in the cache)
#              SUITES     default "trixie trixie-backports"
#              DEB_ARCH   default: this machine's
#              DEB_MIRROR default: this machine's own Debian mirror, from apt
#
# Exits with 75 where the network is what fails.
set -euo pipefail
. "$(dirname "$0")/common.sh"
state=${DEB_STATE:-$cache/apt}
suites=${SUITES:-trixie trixie-backports}
arch=${DEB_ARCH:-$native}
nodeps=
if [ "${1:-}" = --no-deps ]; then nodeps=1; shift; fi
root=${1:?usage: debtree.sh [--no-deps] ROOT PACKAGE...}; shift

# The machine's mirror is whatever apt uses for the running release.
mirror=${DEB_MIRROR:-$(. /etc/os-release
  apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
    awk -v c="$VERSION_CODENAME" '$1 == c { print $2; exit }')}
[ -n "$mirror" ] || unable "no Debian mirror in apt's configuration"

mkdir -p "$state"/{lists/partial,cache/archives/partial,parts} "$root"
: > "$state/status"
for s in $suites; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $s main"
done > "$state/sources.list.new"

apt_opts=(
  -oDir::State="$state" -oDir::State::Lists="$state/lists" -oDir::State::status="$state/status"
  -oDir::Etc::sourcelist="$state/sources.list" -oDir::Etc::sourceparts=/dev/null
  -oDir::Etc::preferences=/dev/null -oDir::Etc::preferencesparts=/dev/null
  -oDir::Cache="$state/cache" -oAPT::Architecture="$arch" -oAPT::Architectures="$arch"
  -oAPT::Default-Release="${suites##* }" -oAPT::Install-Recommends=false -oAPT::Sandbox::User=root -oAcquire::Languages=none
  -oAcquire::Retries=3 -oDebug::NoLocking=true
)
mv "$state/sources.list.new" "$state/sources.list"
# Always: what old lists name may have left the mirror. Where that fails, which apt does not tell, the old ones must do.
apt-get "${apt_opts[@]}" -qq update || true
for s in $suites; do
  compgen -G "$state/lists/*_dists_${s}_main_binary-${arch}_Packages*" >/dev/null || unable "the lists of $s cannot be downloaded"
done

# Resolve against an empty archive folder, else apt leaves out what is cached.
mkdir -p "$state/none/partial"
if [ -n "$nodeps" ]; then get=(download); else get=(-y install); fi
mapfile -t wanted < <(cd "$state/none" &&
  apt-get "${apt_opts[@]}" -oDir::Cache::archives="$state/none" -qq --print-uris "${get[@]}" "$@" |
  sed -n "s|^'[^']*' \([^ ]*\.deb\) \([0-9]*\) .*|\2 $state/cache/archives/\1|p")
debs=("${wanted[@]#* }")
[ ${#debs[@]} -gt 0 ] || fail "apt resolved nothing for: $*"

# Download (apt verifies the checksums); what is already cached costs nothing.
printf '%s\n' "${wanted[@]}" | while read -r size f; do [ -e "$f" ] || echo "$size"; done |
  awk '{ s += $1 } END { if (s > 1e6) printf "guest: downloading %d packages, %.0f MB\n", NR, s / 1e6 }' >&2
(cd "$state/cache/archives" &&
  apt-get "${apt_opts[@]}" -qq --download-only "${get[@]}" "$@" > /dev/null) || unable "cannot be downloaded: $*"

# base-files first: it brings the /bin, /lib, /sbin -> usr links.
skip=(--exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*')
printf '%s\n' "${debs[@]}" | awk '{ print (/\/base-files_/ ? 0 : 1), $0 }' | sort -k1,1n -s | cut -d' ' -f2- |
  while read -r f; do dpkg-deb --fsys-tarfile "$f" | tar -x -C "$root" --keep-directory-symlink "${skip[@]}"; done
echo "debtree: ${#debs[@]} packages, $(du -cbm "${debs[@]}" | tail -1 | cut -f1) MB of .debs -> $(du -sm "$root" | cut -f1) MB in $root"
