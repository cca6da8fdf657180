#!/bin/bash
# install.sh - install what `make installable` built: the program, the fio engine with its library, manual pages,
# completions, pages, the systemd unit of `serve` and its user. Prints nothing but mistakes and what it leaves out.
#
# Environment: PREFIX   where it will run (default /usr/local)
#              DESTDIR  put before every path, for packages (default none)
#              BUILT    the folder with what was built (default .build/static)
#              PAGES    the folder with manual pages and completions (default: BUILT)
#              DOCS     where the manual says the other pages are (default PREFIX/share/doc/nvmepf)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}$prefix
built=${BUILT:-.build/static}
pages=${PAGES:-$built}

fail() {
  echo "install: $*" >&2
  exit 1
}
# put MODE FILE FOLDER/NAME
put() { install -D -m "$1" "$2" "$root/$3"; }

case $prefix in /*) ;; *) fail "PREFIX must be an absolute path, not $prefix" ;; esac
[ -x "$built/nvmepf" ] && [ -d "$pages/man" ] || fail "$built/nvmepf or $pages/man is missing: make installable"

put 755 "$built/nvmepf" bin/nvmepf
if [ -e "$built/nvmepf-fio.so" ] && [ -e "$built/libnvmepf-host.so" ]; then
  put 644 "$built/nvmepf-fio.so" lib/nvmepf/nvmepf-fio.so
  put 644 "$built/libnvmepf-host.so" lib/nvmepf/libnvmepf-host.so
else
  echo "install: without the fio engine, which is not built: record -- fio will not work"
fi

docs=${DOCS:-$prefix/share/doc/nvmepf}
for page in "$pages"/man/man*/*; do
  section=${page##*.}
  sed "s|@DOCS@|$docs|g" "$page" | gzip -9n | install -D -m 644 /dev/stdin "$root/share/man/man$section/${page##*/}.gz"
done
put 644 "$pages/completions/bash" share/bash-completion/completions/nvmepf
# Where zsh looks depends on who installs.
zsh=site-functions
[ "$prefix" != /usr ] || zsh=vendor-completions
put 644 "$pages/completions/zsh" share/zsh/$zsh/_nvmepf
put 644 "$pages/completions/fish" share/fish/vendor_completions.d/nvmepf.fish

for page in README.md CHANGELOG.md; do put 644 "$page" "share/doc/nvmepf/$page"; done
(cd docs && find . -type f -print) | while read -r page; do put 644 "docs/$page" "share/doc/nvmepf/docs/$page"; done
put 644 packaging/magic share/nvmepf/magic

sed "s|@BINDIR@|$prefix/bin|" packaging/systemd/nvmepf@.service |
  install -D -m 644 /dev/stdin "$root/lib/systemd/system/nvmepf@.service"
put 644 packaging/systemd/nvmepf.sysusers lib/sysusers.d/nvmepf.conf
