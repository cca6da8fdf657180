#!/bin/bash
# use.sh - in a fresh Debian, as root: install the packages of /packages, use them as an ordinary user, purge them.
set -euo pipefail
cd /packages

die() {
  echo "    $*" >&2
  exit 1
}
expect() { # TEXT COMMAND...: succeeds, and prints TEXT
  local text=$1
  shift
  "$@" >/tmp/out 2>&1 || die "status $?: $* $(tail -n 5 /tmp/out)"
  grep -q -- "$text" /tmp/out || die "'$text' is not in what $* prints: $(head -n 20 /tmp/out)"
}
as_user() { setpriv --reuid=newcomer --regid=newcomer --init-groups env HOME=/home/newcomer MANPAGER=cat MANWIDTH=80 sh -ec 'cd; exec "$@"' sh "$@"; }
apt() { apt-get --quiet --yes --no-install-recommends "$@" >/tmp/apt.log 2>&1 || die "apt-get $*: $(tail -n 5 /tmp/apt.log)"; }
traces_of_it() { find / -xdev \( -path /packages -o -path /home -o -path /var/cache/man -o -path /tmp -o -path /proc \) -prune -o -name '*nvmepf*' -print; }

useradd --create-home --shell /bin/bash newcomer
before=$(traces_of_it)
apt install ./nvmepf*.deb
! ldd /usr/bin/nvmepf | grep 'not found' || die "a library is missing"

# The built-in workload.
expect '^[0-9]*\.[0-9]*\.[0-9]* (commit ' as_user nvmepf --version
expect . as_user nvmepf record --rw randread --bs 4k --number 2000 -o own.nvpt
expect identical as_user nvmepf replay own.nvpt
expect execute as_user nvmepf report own.nvpt

# fio by its engine, and the message without it.
if [ -e /usr/lib/nvmepf/nvmepf-fio.so ]; then
  expect . as_user nvmepf record -o fio.nvpt -- fio --name=t --rw=randread --bs=4k --size=1M
  expect identical as_user nvmepf replay fio.nvpt
  expect '"commands":2[56]' as_user nvmepf info --json fio.nvpt
  apt remove nvmepf-fio
fi
as_user nvmepf record -o no.nvpt -- fio --name=t --rw=randread --bs=4k --size=1M >/tmp/out 2>&1 && die "fio without an engine"
grep -q 'the fio engine, nvmepf-fio.so, is neither in /usr/bin nor in /usr/lib/nvmepf: install the package nvmepf-fio' /tmp/out || die "$(cat /tmp/out)"

# Manual pages.
expect 'EXIT STATUS' as_user man nvmepf
expect '--events-where' as_user man nvmepf dump
expect 'NVPT' as_user man 5 nvmepf-trace
expect 'nvmepf' as_user apropos nvmepf-trace
expect 'nvmepf trace, version 1' as_user file -m /usr/share/nvmepf/magic own.nvpt

# Completion, as bash does it when the user presses the tabulator key.
cat >/packages/complete.bash <<'END'
. /usr/share/bash-completion/bash_completion
# By its name in bash-completion 2.11, which answers 124, or that in 2.12 and later.
if declare -F _comp_load >/dev/null; then _comp_load nvmepf; else _completion_loader nvmepf; fi || true
complete_words() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMPREPLY=()
  COMP_POINT=${#COMP_LINE}
  "$(complete -p nvmepf | sed 's/.*-F \([^ ]*\).*/\1/')" nvmepf "${@: -1}" "${@: -2:1}"
  echo "${COMPREPLY[*]}"
}
complete_words "$@"
END
completes() { # WANTED WORD...
  local wanted=$1 got
  shift
  got=$(as_user bash /packages/complete.bash "$@" 2>&1) || true
  [ "$(xargs -n 1 <<<"$got" | sort | xargs)" = "$wanted" ] || die "'$*' completes to '$got', not to '$wanted'"
}
as_user touch own.txt
completes 'repair replay report' nvmepf rep
completes 'own.nvpt' nvmepf dump own
completes '--event --events-where' nvmepf dump --ev
completes 'doorbell' nvmepf dump --event door

# The service's user, unit and configuration, started as the unit does it.
getent passwd nvmepf >/dev/null || die "no user nvmepf"
systemd-analyze verify /usr/lib/systemd/system/nvmepf@.service >/tmp/out 2>&1 || die "the unit: $(cat /tmp/out)"
mkdir -p /etc/nvmepf /run/nvmepf/x
chown nvmepf: /run/nvmepf/x
sed -n '/^```json/,/^```/p' /usr/share/doc/nvmepf/docs/configuration.md | grep -v '^```' >/etc/nvmepf/x.json
command=$(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/nvmepf@.service)
setpriv --reuid=nvmepf --regid=nvmepf --clear-groups ${command//%i/x} >/tmp/serve 2>&1 &
server=$!
until [ -S /run/nvmepf/x/socket.control ]; do
  kill -0 $server 2>/dev/null || die "the service ended: $(cat /tmp/serve)"
  sleep 0.1
done
expect 'null' nvmepf ns list --socket /run/nvmepf/x/socket
kill $server
wait $server || die "the service ended with status $?: $(cat /tmp/serve)"
rm -rf /etc/nvmepf /run/nvmepf

apt purge nvmepf
[ "$(traces_of_it)" = "$before" ] || die "left after a purge: $(traces_of_it)"
[ -z "$(ls /dev/shm)" ] || die "left in /dev/shm: $(ls /dev/shm)"
