# A recorded command of an ordinary user, under Yama's ptrace_scope 1: its programs run, and a fio that names files does not.
. ./guest.inc
echo 1 >/proc/sys/kernel/yama/ptrace_scope
expect "Yama's scope" "$(cat /proc/sys/kernel/yama/ptrace_scope)" 1
mkdir -m 777 /tmp/user
cd /tmp/user || exit

# recorded COMMAND... - by somebody without any privilege.
recorded() {
  /usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all \
    $nvmepf record -o t.nvpt -- "$@" >said 2>&1
}
recorded sh -c '/bin/true && sh -c "exec /bin/id -u"'
expect "the status of a command that runs others" $? 0
holds "they ran" grep -q '^65534$' said
# The orphan is the watcher's, no longer the shell's.
recorded sh -c '(sh -c "(sleep 1; /bin/id -u; echo done) & :"); until grep -q done said; do sleep 1; done'
holds "an orphan's programs run" grep -q '^65534$' said
recorded sh -c '/usr/bin/fio --name=j --rw=write --size=4k --filename=victim'
holds "fio is refused for what it is" grep -q 'fio was not run: it is fio' said
holds "the victim is not there" test ! -e victim
cat said
finish
