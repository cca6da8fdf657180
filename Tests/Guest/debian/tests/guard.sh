# An ordinary user's recorded command under Yama's ptrace_scope 1: its programs run, but not a fio that names files.
. ./guest.inc
echo 1 >/proc/sys/kernel/yama/ptrace_scope
expect "Yama's scope" "$(cat /proc/sys/kernel/yama/ptrace_scope)" 1
mkdir -m 777 /tmp/user
cd /tmp/user || exit

# recorded COMMAND... - record COMMAND without any privilege.
recorded() {
  /usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all \
    $nvmepf record -o t.nvpt -- "$@" >said 2>&1
}
recorded sh -c '/bin/true && sh -c "exec /bin/id -u"'
expect "the status of a command that runs others and uses no endpoint" $? 3
holds "they ran" grep -q '^65534$' said
# The watcher adopts the orphan.
recorded sh -c '(sh -c "(sleep 1; /bin/id -u; echo done) & :"); until grep -q done said; do sleep 1; done'
holds "an orphan's programs run" grep -q '^65534$' said
recorded sh -c '/usr/bin/fio --name=j --rw=write --size=4k --filename=victim'
holds "fio is refused" grep -q 'fio was not run: it is fio' said
holds "the file was not created" test ! -e victim
cat said
finish
