#!/bin/bash
# cross.sh COMMAND... - run a command among the tools that build nvmepf for arm64 on amd64: Debian sid's Swift, whose packages
# for the two architectures match, as a Swift SDK needs. The command sees this machine's folders, but the tools' /usr and /etc;
# CROSS_SDKS and CROSS_SYSROOT tell it where the SDK (nvmepf-arm64) lies. Extracted into the guests' cache on first use
# (1.3 GB downloaded, 4.5 GB kept): nothing is installed, and no privilege is needed. Without a command only prepares that.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../Tests/Guest/common.sh"
tools=$cache/cross/tools
export CROSS_SDKS=$cache/cross/sdks
bundle=$CROSS_SDKS/nvmepf-arm64.artifactbundle
export CROSS_SYSROOT=$bundle/arm64/sysroot
swift=usr/libexec/swift

# The version of a downloaded package, without the number of its rebuild in one architecture.
version_of() { dpkg-deb -f "$1"/cache/archives/swiftlang_*.deb Version | sed 's/+b[0-9]*$//'; }

download() {
  need dpkg
  rm -rf "$cache/cross" "$cache"/apt-cross-*
  # clang: Debian's Swift has one without the BPF target.
  DEB_STATE=$cache/apt-cross-tools SUITES=sid "$guest/debtree.sh" "$tools" \
    base-files bash coreutils sed git pkgconf swiftlang libswiftlang clang libbpf-dev
  DEB_STATE=$cache/apt-cross-swift SUITES=sid DEB_ARCH=arm64 "$guest/debtree.sh" --no-deps "$CROSS_SYSROOT" \
    base-files swiftlang libswiftlang
  DEB_STATE=$cache/apt-cross-libraries SUITES=trixie DEB_ARCH=arm64 "$guest/debtree.sh" "$CROSS_SYSROOT" \
    base-files libc6-dev libstdc++-14-dev libgcc-14-dev libzstd-dev libbpf-dev libelf-dev zlib1g-dev liburing-dev libedit-dev
  # trixie's libelf.a lacks a part of itself, eu_search_tree_init.
  DEB_STATE=$cache/apt-cross-libelf SUITES=bookworm DEB_ARCH=arm64 "$guest/debtree.sh" --no-deps "$CROSS_SYSROOT" \
    base-files libelf-dev
  local ours theirs
  ours=$(version_of "$cache/apt-cross-tools") theirs=$(version_of "$cache/apt-cross-swift")
  [ "$ours" = "$theirs" ] || unable "sid has swiftlang $ours for amd64, but $theirs for arm64: try again in some days"
  # The programs for arm64, and the packages, which nothing needs again.
  find "$CROSS_SYSROOT/$swift" -mindepth 1 -maxdepth 1 ! -name lib -exec rm -rf {} +
  find "$CROSS_SYSROOT/$swift/lib" -mindepth 1 -maxdepth 1 ! -name 'swift*' ! -name clang -exec rm -rf {} +
  rm -rf "$cache"/apt-cross-*
}

describe() {
  # Debian's packages leave that link to their scripts.
  ln -sf bash "$tools/usr/bin/sh"
  # The compiler looks there for what its package keeps elsewhere.
  ln -sfn "../libexec/swift/lib/swift_static" "$CROSS_SYSROOT/usr/lib/swift_static"
  cat >"$bundle/info.json" <<EOF
{ "schemaVersion": "1.0",
  "artifacts": { "nvmepf-arm64": { "type": "swiftSDK", "version": "1",
    "variants": [ { "path": "arm64", "supportedTriples": ["x86_64-unknown-linux-gnu", "x86_64-pc-linux-gnu"] } ] } } }
EOF
  cat >"$bundle/arm64/swift-sdk.json" <<EOF
{ "schemaVersion": "4.0",
  "targetTriples": { "aarch64-unknown-linux-gnu": {
    "sdkRootPath": "sysroot",
    "swiftResourcesPath": "sysroot/$swift/lib/swift",
    "swiftStaticResourcesPath": "sysroot/$swift/lib/swift_static",
    "toolsetPaths": ["toolset.json"] } } }
EOF
  cat >"$bundle/arm64/toolset.json" <<EOF
{ "schemaVersion": "1.0", "rootPath": "/$swift/bin",
  "swiftCompiler": { "extraCLIOptions": ["-use-ld=lld", "-Xclang-linker", "-fuse-ld=lld"] },
  "linker": { "path": "ld.lld" } }
EOF
}

[ "$(dpkg --print-architecture)" = amd64 ] || fail "the tools are for amd64; this machine is $(dpkg --print-architecture)"
once cross-packages "$(key_of "$guest/debtree.sh" <(declare -f download))" download
once cross "$(key_of "$0" "$cache/cross-packages.done")" describe
[ $# -gt 0 ] || exit 0

# A user's own mount namespace: the tools' tree with this machine's folders and its way to the network.
export tools
exec unshare --mount --map-root-user --propagation private bash -euc '
  for place in /*/ /etc/{resolv.conf,hosts,passwd,group,gitconfig,ssl}; do
    place=${place%/}
    case $place in /usr | /etc | /bin | /sbin | /lib* | /boot | /lost+found) continue ;; esac
    [ -e "$place" ] || continue
    [ -e "$tools$place" ] || if [ -d "$place" ]; then mkdir -p "$tools$place"; else : >"$tools$place"; fi
    mount --rbind "$place" "$tools$place"
  done
  exec chroot "$tools" /usr/bin/env PATH="/usr/libexec/swift/bin:/usr/bin:/usr/sbin" sh -c "cd \"\$0\" && exec \"\$@\"" "$PWD" "$@"
' cross.sh "$@"
