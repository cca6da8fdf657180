#!/bin/sh
# version.sh - print the version of these sources: that of ProductVersion.swift if CHANGELOG.md has a part for it, else
# that with the commit's date and name, which sorts before the release.
set -e
cd "$(dirname "$0")/.."
version=$(sed -n 's/^public let productVersion = "\(.*\)"/\1/p' Sources/Service/ProductVersion.swift)
[ -n "$version" ] || { echo "version.sh: no version in Sources/Service/ProductVersion.swift" >&2; exit 1; }
if grep -q "^## \[$version\]" CHANGELOG.md; then
  echo "$version"
else
  echo "$version~$(git log -1 --format=git%cd.%h --date=format:%Y%m%d --abbrev=7 2>/dev/null || echo unreleased)"
fi
