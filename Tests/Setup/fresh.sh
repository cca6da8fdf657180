#!/bin/bash
# fresh.sh [TARGET...]
#
# Runs README's two commands, `make demo` and `make test`, or those named, like a new user: in a Debian 13 with nothing
# installed, as an ordinary user without sudo, from a tarball without .git, in a directory with a space in its name. Needs
# root, mmdebstrap and a Debian mirror. Mounts and processes have their own namespaces and end with the script; the
# machine's Swift toolchain, and local mirrors in its git configuration, are bound in. Prints the commands' output.
#
# Environment: XDG_CACHE_HOME  where the Debian root is kept, 60 MB (default ~/.cache)
#              DEB_MIRROR      the Debian mirror (default: mmdebstrap's)
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
archive=${XDG_CACHE_HOME:-$HOME/.cache}/nvmepf/fresh/trixie.tar
user=newcomer
home=/home/$user
folder="$home/my nvmepf"

say() { echo "fresh: $*"; }
fail() {
  echo "fresh: $*" >&2
  exit 1
}

# The outer half: namespaces, and a directory that is removed at the end.
if [ -z "${FRESH_ROOT:-}" ]; then
  [ "$(id -u)" = 0 ] || fail "run as root: this mounts and changes its root"
  command -v mmdebstrap >/dev/null || fail "install mmdebstrap: apt-get install mmdebstrap"
  command -v swift >/dev/null || fail "swift is not on PATH"
  FRESH_ROOT=$(mktemp -d)
  export FRESH_ROOT
  trap 'rm -rf --one-file-system "$FRESH_ROOT"' EXIT
  unshare --mount --propagation private --pid --fork --kill-child "$0" "$@"
  exit
fi

root=$FRESH_ROOT
unpack() {
  if [ ! -e "$archive" ]; then
    say "making a Debian 13 with mmdebstrap"
    mkdir -p "$(dirname "$archive")"
    mmdebstrap --variant=minbase --include=ca-certificates trixie "$archive.partial.tar" ${DEB_MIRROR:+"$DEB_MIRROR"} >/dev/null
    mv "$archive.partial.tar" "$archive"
  fi
  tar -xf "$archive" -C "$root"
  cp -L /etc/resolv.conf "$root/etc/"
}

bind() { # FOLDER...: where it is outside, read-only
  local place
  for place; do
    mkdir -p "$root$place"
    mount --bind -o ro "$place" "$root$place"
  done
}

furnish() {
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  toolchain=$(dirname "$(dirname "$(realpath "$(command -v swift)")")")
  bind "$toolchain"
  # Mirrors belong to another user, which git refuses by default.
  { git config --get-regexp '^url\..*\.insteadof$' || true; } | while read -r key original; do
    place=${key#url.} place=${place%.insteadof}
    [ -d "$place" ] || continue
    mountpoint --quiet "$root${place%/}" || bind "${place%/}"
    git config --file "$root/etc/gitconfig" --add "url.$place.insteadOf" "$original"
    git config --file "$root/etc/gitconfig" safe.directory '*'
  done
}

in_root() { chroot "$root" env -i LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
as_user() {
  in_root setpriv --reuid=$user --regid=$user --init-groups \
    env HOME=$home USER=$user PATH="$toolchain/bin:/usr/bin:/bin" sh -ec 'cd "$0"; exec "$@"' "$folder" "$@"
}

install_in_root() {
  in_root apt-get -qq install --no-install-recommends "$@" >"$root/apt.log" 2>&1 || fail "apt-get install $*: $(tail -n 3 "$root/apt.log")"
}

unpack
furnish
in_root useradd --create-home --shell /bin/bash $user
in_root apt-get -qq update
# The requirements in README.
install_in_root make
in_root mkdir "$folder"
(cd "$source" && git ls-files -z | tar -c --null -T -) | in_root tar -x -C "$folder"
in_root chown -R $user: "$home"

# Without privileges setup prints a line with the packages, to be run as root.
said=$(as_user make setup 2>&1) && fail "an ordinary user has installed packages: $said"
packages=$(sed -n 's/^setup: .*as root: apt-get install //p' <<<"$said")
[ -n "$packages" ] || fail "setup does not say what to install: $said"
say "as setup told the user: apt-get install $packages"
install_in_root $packages

[ $# -gt 0 ] || set -- demo test
failed=()
for target; do
  begin=$SECONDS status=0
  as_user make "$target" || status=$?
  say "make $target: status $status ($((SECONDS - begin)) s)"
  [ "$status" = 0 ] || failed+=("$target")
done
left=$(ls "$root/dev/shm")
[ -z "$left" ] || fail "left in /dev/shm: $left"
[ ${#failed[@]} = 0 ] || fail "failed: ${failed[*]}"
say "passed: $*"
