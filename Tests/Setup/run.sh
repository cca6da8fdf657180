#!/bin/bash
# run.sh - tests the messages of scripts/setup.sh for an unusable swift, and the scripts in a directory with a space.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# outcome TITLE STATUS
outcome() {
  if [ "$2" = 0 ]; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    echo "FAILED: $1"
    sed 's/^/    /' "$work/said"
  fi
}

# refuses TITLE SWIFT-SCRIPT PATTERN - setup.sh ends with status 1 and one line of its own about such a swift.
refuses() {
  mkdir -p "$work/bin"
  printf '#!/bin/sh\n%s\n' "$2" >"$work/bin/swift"
  chmod +x "$work/bin/swift"
  PATH=$work/bin:$PATH "$root/scripts/setup.sh" >"$work/said" 2>&1
  [ $? = 1 ] && [ "$(grep -vc '^setup: warning' "$work/said")" = 1 ] && grep -q "^setup: $work/bin/swift $3" "$work/said"
  outcome "$1" $?
}

refuses "a swift that lacks a library" \
  'echo "swift: error while loading shared libraries: libx.so: cannot open" >&2; exit 127' \
  'does not start (status 127: swift: error while loading .*https://www.swift.org/install'
refuses "a swift that dies" 'kill -ABRT $$' 'does not start (status 134'
refuses "a swift that is too old" 'echo "Swift version 5.9.2 (swift-5.9.2-RELEASE)"' 'is Swift 5.9.2; nvmepf needs 6.2 or later'
refuses "a swift that is another program" 'echo hello' '--version names no version of Swift'

# A PATH with all but Swift.
mkdir "$work/path"
for tool in bash dirname tail sed head sort grep dpkg-query id; do ln -s "$(command -v $tool)" "$work/path/"; done
PATH=$work/path "$root/scripts/setup.sh" >"$work/said" 2>&1
[ $? = 1 ] && grep -q '^setup: swift is not on PATH; nvmepf needs Swift' "$work/said"
outcome "no swift" $?

"$root/scripts/setup.sh" >"$work/said" 2>&1
outcome "the swift of this machine" $?

mkdir "$work/a folder"
cp -r "$root/FioEngine" "$root/scripts" "$root/Makefile" "$work/a folder/"
(cd "$work/a folder" && FioEngine/build.sh "out put" && make help && make setup) >"$work/said" 2>&1 &&
  { [ -e "$work/a folder/out put/nvmepf-fio.so" ] || grep -q 'NOT BUILT' "$work/said"; }
outcome "a folder with a space in its name" $?

# A mirror without fio's source: no engine, and a message.
XDG_CACHE_HOME=$work/cache DEB_MIRROR=file://$work/nothing "$root/FioEngine/build.sh" "$work/engine" >"$work/said" 2>&1 &&
  grep -q '^fio engine: NOT BUILT: .* no source of fio .*"nvmepf record -- fio" does not work' "$work/said" &&
  [ ! -e "$work/engine/nvmepf-fio.so" ]
outcome "a mirror without fio's source" $?

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
