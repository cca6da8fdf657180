#!/bin/bash
# release.sh OUTPUT - what is published for this architecture, after `make deb`: a tarball whose folder can be put anywhere,
# the Debian packages, and SHA256SUMS of all.
#
# Environment: BUILT, PAGES, ARCH  as for deb.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
output=${1:?usage: release.sh OUTPUT}
version=$(scripts/version.sh)
architecture=${ARCH:-$(dpkg --print-architecture)}
name=nvmepf-$version-linux-$architecture
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
[ -z "$(git status --porcelain 2>/dev/null)" ] || echo "release.sh: WARNING: the sources differ from the commit" >&2

rm -rf "$output"
mkdir -p "$output"
DOCS=share/doc/nvmepf DESTDIR=$output PREFIX=/$name scripts/install.sh
cp LICENSE "$output/$name/"
# Names inside are relative to the folder, and the unit is for an installation.
rm -rf "$output/$name"/lib/{systemd,sysusers.d}
tar --create --zstd --file "$output/$name.tar.zst" --directory "$output" --sort=name --owner=0 --group=0 --numeric-owner \
  --mtime "@$SOURCE_DATE_EPOCH" "$name"
rm -rf "${output:?}/$name"
cp .build/debs/*_"$architecture".deb "$output/"
(cd "$output" && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)
