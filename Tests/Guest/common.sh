# Sourced by the scripts of this directory: cache for downloads and builds, and messages.

guest=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${NVMEPF_GUEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nvmepf}/guest
mkdir -p "$cache"

# This machine's architecture, and that of the guests: Debian's names. ARCH in the environment chooses the guests'.
native=$(dpkg --print-architecture)
arch=${ARCH:-$native}
# What the cache holds for guests of another architecture than amd64 has it in its name.
of_arch=
[ "$arch" = amd64 ] || of_arch=-$arch

# triple_of, loader_of ARCHITECTURE - the folder of its libraries, and its loader.
triple_of() { case $1 in amd64) echo x86_64-linux-gnu ;; arm64) echo aarch64-linux-gnu ;; esac; }
loader_of() { case $1 in amd64) echo /usr/lib64/ld-linux-x86-64.so.2 ;; arm64) echo /usr/lib/ld-linux-aarch64.so.1 ;; esac; }

say() { echo "guest: $*"; }
fail() {
  echo "guest: $*" >&2
  exit 1
}
# A limit of this machine or its network is not a test failure: it has its own status (EX_TEMPFAIL).
unable=75
unable() {
  echo "guest: $*" >&2
  exit $unable
}

# need PACKAGE... - install missing Debian packages on this machine.
need() {
  local missing=() package
  for package in "$@"; do
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || unable "as root: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    { apt-get update -qq && apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null; } ||
    unable "${missing[*]} cannot be installed"
}

# once NAME KEY COMMAND... - run COMMAND unless it has succeeded with this KEY before. Other scripts wait for it.
once() {
  local name=$1 key=$2 stamp
  shift 2
  stamp=$cache/$name.done
  exec 9>"$cache/$name.lock"
  flock 9
  if [ "$(cat "$stamp" 2>/dev/null)" != "$key" ]; then
    rm -f "$stamp"
    local begin=$SECONDS
    "$@"
    echo "$key" >"$stamp"
    say "$name is ready after $((SECONDS - begin)) s"
  fi
  exec 9>&-
}

# A key that changes with the contents of files.
key_of() { cat "$@" | sha256sum | cut -c1-16; }

# emulator - prints the program, extracted into the cache on first use, that runs programs of the guests' architecture here;
# nothing if this machine runs them itself.
emulator() {
  [ "$arch" != "$native" ] || return 0
  extract_emulator() {
    rm -rf "$cache/qemu-user"
    "$guest/debtree.sh" --no-deps "$cache/qemu-user" qemu-user
  }
  once qemu-user "$(key_of "$guest/debtree.sh")" extract_emulator >&2
  echo "$cache/qemu-user/usr/bin/qemu-aarch64"
}

# libraries BINARY FOLDER - copy the shared libraries and the loader that a program needs.
libraries() {
  ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$2"
    cp -Ln "$library" "$2/" 2>/dev/null || true
  done
}
