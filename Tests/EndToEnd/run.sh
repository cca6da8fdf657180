#!/bin/bash
# run.sh [NAME...]
#
# The whole tool as a user has it: real fio, killed recorders, full disks, wrong usage. After `make build`. Runs every
# test_NAME below, or those named; prints a line for each and a count at the end.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
release=$PWD/.build/release
nvmepf=$release/nvmepf
here=$PWD/Tests/EndToEnd
export NVMEPF=$nvmepf SWIFT_BACKTRACE=enable=no
work=$(mktemp -d)
trap 'cd /; umount "$work/small" 2>/dev/null; rm -rf "$work"' EXIT
passed=0 failed=()

# Every check says what it expected; the first that fails ends its test.
die() { echo "    $*"; exit 1; }
json() { python3 -c "import json,sys; d=json.load(sys.stdin); print($1)"; }
expect_status() { # STATUS COMMAND...
  local wanted=$1 got=0
  shift
  "$@" >out 2>err || got=$?
  [ $got = "$wanted" ] || die "exit status $got instead of $wanted: $* $(head -c 400 err)"
}
expect_refused() { # TEXT COMMAND...: status 2, one line that holds TEXT, besides what an earlier recording on this machine left
  local text=$1
  shift
  expect_status 2 "$@"
  [ "$(grep -vc 'a killed recording left events' err)" = 1 ] || die "more or less than one line: $* $(cat err)"
  grep -qi -- "$text" err || die "'$text' is not in: $(cat err)"
}
expect_identical() { "$nvmepf" replay "$@" >out 2>err || die "$(head -20 out err)"; }
expect_exact_sums() {
  "$nvmepf" report --json "$1" >report.json || die "no report"
  python3 - <<'P' || exit 1
import json
r = json.load(open("report.json"))
names = "detect fetch dispatch map data-in execute data-out complete interrupt reap recording".split()
assert [s["stage"] for s in r["stages"]] == names, r["stages"]
total = sum(s["mean_ns"] for s in r["stages"]) + r["unexplained"]["mean_ns"]
assert abs(total - r["latency"]["mean_ns"]) < 1e-3, (total, r["latency"])
assert r["format"] == "nvmepf-report/1" and r["lost"] == 0 and r["commands"] > 0 and r["findings"]
P
}

test_fio_qd1() {
  expect_status 0 "$nvmepf" record -- fio --name=t --rw=randread --bs=4k --iodepth=1 --runtime=2 --time_based \
    --output-format=json --output=fio.json
  expect_identical
  expect_exact_sums nvmepf.nvpt
  python3 - <<'P' || exit 1
import json
fio = json.load(open("fio.json"))["jobs"][0]["read"]["clat_ns"]["mean"]
own = json.load(open("report.json"))["latency"]["mean_ns"]
print(f"    fio's mean completion latency {fio:.0f} ns, the report's mean total {own:.0f} ns: "
      f"{fio - own:+.0f} ns is fio's own, before the doorbell and after the reap")
assert abs(fio - own) <= max(0.05 * fio, 200), (fio, own)
P
}

test_fio_verify() {
  expect_status 0 "$nvmepf" record --backend memory --size 256MiB -- fio --name=t --rw=randrw --verify=crc32c \
    --iodepth=16 --numjobs=2 --bsrange=512-1M --size=64M --offset_increment=64M --output-format=json --output=fio.json
  [ "$(json 'sum(j["error"] for j in d["jobs"])' <fio.json)" = 0 ] || die "fio found errors"
  expect_identical
  expect_exact_sums nvmepf.nvpt
}

test_fio_job_file() {
  printf '[global]\nioengine=libaio\nbs=8k\n[a]\nrw=randread\niodepth=4\nnumber_ios=500\n[b]\nrw=write\nfsync=8\nsize=1M\n' >job.fio
  expect_status 0 "$nvmepf" record --backend memory -- fio job.fio
  grep -q ioengine=nvmepf out || die "fio ran on another engine"
  expect_identical
}

test_built_in_workload() {
  local rw
  for rw in read write randread randwrite randrw; do
    expect_status 0 "$nvmepf" record -o w.nvpt --backend memory --size 64MiB --rw $rw --bs 16k --iodepth 8 \
      --numjobs 2 --number 500
    [ "$("$nvmepf" info --json w.nvpt | json 'd["commands"], d["lost"], d["complete"]')" = "1000 0 True" ] ||
      die "not 1000 commands: $("$nvmepf" info w.nvpt)"
    expect_identical w.nvpt
    expect_exact_sums w.nvpt
  done
}

test_more_jobs_than_cores() {
  # Eight hosts and an engine on one core: by polling this took a minute.
  expect_status 0 taskset -c 0 "$nvmepf" record --rw randread --bs 4k --numjobs 8 --number 2000
  expect_identical
  expect_exact_sums nvmepf.nvpt
  [ "$(json 'd["commands"]' <report.json)" = 16000 ] || die "not every command is in the report"
  "$nvmepf" dump --event rest nvmepf.nvpt >rests
  grep -q ' host/.* rest ' rests || die "no host has slept"
  grep -q ' engine/0 rest ' rests || die "the engine has not yielded"
  expect_status 0 "$nvmepf" record -- fio --name=t --rw=randread --bs=4k --iodepth=1 --numjobs=8 --number_ios=2000 \
    --output-format=json --output=fio.json
  [ "$(json 'sum(j["read"]["total_ios"] for j in d["jobs"])' <fio.json)" = 16000 ] || die "fio lacks commands"
  expect_identical
  expect_exact_sums nvmepf.nvpt
  [ "$(json 'd["commands"]' <report.json)" = 16000 ] || die "not every command is in the report"
}

test_lost_commands() {
  local begin status
  expect_status 1 timeout 60 "$nvmepf" record --backend null:1GiB,constant:1000s --rw read --iodepth 2 --numjobs 2 --timeout 0.5
  grep -q "does not complete queue [12]: command 0 (read, LBA 0, 0 s); command 1 (read, LBA 8, 0 s)" err || die "$(cat err)"
  expect_status 0 "$nvmepf" replay
  # A signal is seen although no command completes: what is waited for is said, and gets its time.
  for signal in INT TERM; do
    record_until_job --backend null:1GiB,constant:1000s
    kill -$signal $recorder
    status=0
    wait $recorder || status=$?
    [ $status = 1 ] || die "exit status $status after SIG$signal: $(cat err)"
    grep -q "waiting for queue 1: command 0 (read, LBA 0,.*a second signal" err || die "$(cat err)"
    grep -q "stopped, and left queue 1: command 0 (read, LBA 0," err || die "$(cat err)"
    expect_status 0 "$nvmepf" replay
  done
  # A slow device is no broken one.
  record_until_job --backend null:1GiB,constant:3s
  kill -TERM $recorder
  wait $recorder || die "exit status $? of a slow device: $(cat err)"
  grep -q "waiting for queue 1: command 0" err || die "$(cat err)"
  expect_identical
  # A second signal ends at once what would wait for half an hour.
  record_until_job --backend null:1GiB,constant:1000s --timeout 1800
  kill -TERM $recorder
  until grep -q 'waiting for queue 1' err; do kill -0 $recorder || die "it has ended: $(cat err)"; done
  kill -TERM $recorder
  status=0
  wait $recorder || status=$?
  [ $status = 143 ] || die "exit status $status after a second signal: $(cat err)"
  expect_status 0 "$nvmepf" repair nvmepf.nvpt
  expect_identical
  # fio's jobs do the same.
  rm -f nvmepf.nvpt
  "$nvmepf" record --backend null:1GiB,constant:3s -- fio --name=t --rw=read --bs=4k --number_ios=4 >out 2>err &
  recorder=$!
  until [ "$("$nvmepf" info --json 2>/dev/null | json 'd["commands"] > 0' 2>/dev/null)" = True ]; do
    kill -0 $recorder || die "it has ended: $(cat err)"
  done
  kill -TERM $recorder
  wait $recorder
  grep -q "t: waiting for queue 1: command 0 (read, LBA 0" err || die "$(cat err)"
  ! grep -q "does not complete" out err || die "a slow device counts as broken: $(cat err)"
  expect_identical
  expect_status 1 timeout 60 "$nvmepf" record --backend null:1GiB,constant:1000s --timeout 0.5 -- \
    fio --name=t --rw=read --bs=4k --number_ios=4
  grep -q "does not complete queue 1: command 0 (read, LBA 0" out err || die "fio names no command: $(cat out err)"
}

record_until_job() { # OPTION...: into $recorder, once a job has begun
  rm -f nvmepf.nvpt
  : >err
  (trap - INT; exec "$nvmepf" record --rw read "$@") >out 2>>err &
  recorder=$!
  until grep -qs nvmepf-job0 /proc/$recorder/task/*/comm && [ "$("$nvmepf" info --json 2>/dev/null |
    json 'd["commands"] > 0' 2>/dev/null)" = True ]; do kill -0 $recorder || die "it has ended: $(cat err)"; done
}

# Neither a terminal nor a pipe that nobody reads keeps a server or a recording from its end.
test_ends_without_reader() {
  local way pid tries
  mkfifo full
  exec 9<>full
  python3 -c '
import os
os.set_blocking(9, False)
try:
    while True: os.write(9, bytes(4096))
except BlockingIOError: os.set_blocking(9, True)' || die "the pipe cannot be filled"
  for way in "serve -vv --socket s" "record -vv --backend null:1GiB,constant:1000s --rw read" "record -- sleep 1000"; do
    rm -f s nvmepf.nvpt
    "$nvmepf" $way >out 2>full &
    pid=$!
    until [ -S s ] || [ -s nvmepf.nvpt ]; do kill -0 $pid || die "$way has ended"; done
    # Asked again it ends at once: until then it may wait for its command.
    for tries in $(seq 12); do
      kill -TERM $pid 2>/dev/null || break
      timeout 5 tail --pid=$pid -f /dev/null
    done
    ! kill -9 $pid 2>/dev/null || die "$way does not end"
    wait $pid 2>/dev/null
  done
  "$nvmepf" serve --socket s >out 2>full &
  pid=$!
  until [ -S s ]; do kill -0 $pid || die "it has ended"; done
  kill -TERM $pid
  wait $pid || die "exit status $? of a server"
  [ ! -e s ] || die "its socket is still there"
  exec 9>&-
}

# A signal while memory is prepared, at the start and of a namespace that is added, is no fault of the storage.
test_signal_while_preparing() {
  local pid adder size status=0
  size=$(awk '/MemAvailable/ { print int($2 / 2048) }' /proc/meminfo)
  [ "$size" -le 8192 ] || size=8192
  expect_status 0 "$nvmepf" record --rw read --number 1
  cp nvmepf.nvpt before.nvpt
  "$nvmepf" record --backend memory --size ${size}MiB --rw read >out 2>err &
  pid=$!
  until grep -qs nvmepf-prefault /proc/$pid/task/*/comm; do kill -0 $pid || die "it has ended: $(cat err)"; done
  kill -TERM $pid
  ! wait $pid || die "it says that all is well"
  grep -q 'a signal came before namespace 1 was ready' err || die "$(cat err)"
  cmp -s nvmepf.nvpt before.nvpt || die "the trace before was lost"

  : >err
  "$nvmepf" serve --socket s --record t.nvpt >out 2>>err &
  pid=$!
  until grep -q 'serving on' err; do kill -0 $pid || die "$(cat err)"; done
  "$nvmepf" ns add --socket s --nsid 2 --backend memory:${size}MiB >add 2>&1 &
  adder=$!
  until grep -qs nvmepf-prefault /proc/$pid/task/*/comm; do kill -0 $adder || die "it is added: $(cat add)"; done
  kill -TERM $pid
  wait $pid || status=$?
  [ $status = 0 ] || die "exit status $status: $(cat err)"
  ! grep -q 'does not answer\|is not closed' err || die "$(cat err)"
  ! wait $adder || die "it was added: $(cat add)"
  [ "$("$nvmepf" info --json t.nvpt | json 'd["complete"]')" = True ] || die "the trace is not closed"
}

# mount_silent FOLDER reads|everything - a FUSE file system that does not answer; false if none can be mounted here. `holder` serves it.
mount_silent() {
  mkdir "$1"
  "$here/silent-fuse.py" "$@" >mounted 2>&1 &
  holder=$!
  until [ -s mounted ]; do :; done
  grep -q '^mounted' mounted && return
  echo "    NOT RUN: no FUSE file system can be mounted here (needs root and /dev/fuse)"
  return 1
}

# A file system that does not answer holds up neither other requests nor the end.
test_namespace_on_hung_file_system() {
  local pid adder holder
  mount_silent hung everything || return 0
  : >err
  "$nvmepf" serve --socket s >out 2>>err &
  pid=$!
  until grep -q 'serving on' err; do kill -0 $pid || die "$(cat err)"; done
  "$nvmepf" ns add --socket s --nsid 2 --backend "$PWD/hung/image" >add 2>&1 &
  adder=$!
  until grep -qs nvmepf-open /proc/$pid/task/*/comm; do kill -0 $adder || die "$(cat add)"; done
  [ "$("$nvmepf" ns list --socket s | wc -l)" = 1 ] || die "others are not answered meanwhile"
  ! wait $adder || die "it was added: $(cat add)"
  grep -q 'cannot open .*hung/image: its file system or device has not answered' add || die "$(cat add)"
  "$nvmepf" ns add --socket s --nsid 3 --backend null:1MiB >add 2>&1 || die "$(cat add)"
  kill -TERM $pid
  wait $pid || die "exit status $?: $(cat err)"
  kill $holder
  umount -l hung
}

# Nor does one that opens files and then never answers a read. The process ends when the kernel lets go of the read, which no
# signal achieves: after what it had to do and to say.
test_read_that_is_never_answered() {
  local pid holder status=0
  mount_silent silent reads || return 0
  "$nvmepf" record --backend "$PWD/silent/image" --rw read --number 1 >out 2>err &
  pid=$!
  until grep -q '^asked' mounted; do kill -0 $pid || die "it has ended: $(cat err)"; done
  kill -TERM $pid
  until grep -q 'run nvmepf repair' err; do kill -0 $pid || die "it does not say what is left: $(cat err)"; done
  kill $holder
  wait $pid || status=$?
  umount -l silent
  [ $status = 1 ] || die "exit status $status: $(cat err)"
  grep -q 'left queue 1: command 0 (read, LBA 0' err || die "no word of the command: $(cat err)"
  grep -q 'storage or memory that does not answer' err || die "no word of why: $(cat err)"
  expect_status 0 "$nvmepf" repair nvmepf.nvpt
  expect_identical
  "$nvmepf" dump --events-where 'event == execute-begin && qid == 1' | grep -q 'slba=0' || die "the read is not in the trace"
}

# Where the kernel could not deliver a client's descriptors, nothing is answered "done".
test_cut_descriptors_are_refused() {
  local pid
  : >err
  "$nvmepf" serve --socket s >out 2>>err &
  pid=$!
  until grep -q 'serving on' err; do kill -0 $pid || die "$(cat err)"; done
  python3 - $pid <<'P' || die "descriptors that did not arrive were taken as given"
import array, errno, os, resource, socket, struct, sys
pid = int(sys.argv[1])
client = socket.socket(socket.AF_UNIX)
client.connect("s")
def ask(command, payload, descriptors=()):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    client.sendmsg([struct.pack("<HHIII", 1, command, 16 + len(payload), 0, 0) + payload], rights)
    header = client.recv(16, socket.MSG_WAITALL)
    size, flags, error = struct.unpack_from("<III", header, 4)
    if size > 16: client.recv(size - 16, socket.MSG_WAITALL)
    return error if flags & 0x20 else 0
assert ask(1, struct.pack("<HH", 0, 1) + b"{}\0") == 0
memory = os.memfd_create("memory")
os.ftruncate(memory, 4096)
event = os.eventfd(0)
def map(): return ask(2, struct.pack("<IIQQQ", 32, 3, 0, 0, 4096), [memory])
def interrupt(): return ask(8, struct.pack("<IIIII", 20, 0x24, 2, 0, 1), [event])
limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
free = min(set(range(4096)) - used)
resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, limit[1]))
assert map() == errno.EMFILE and interrupt() == errno.EMFILE
resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
assert map() == 0 and interrupt() == 0
P
  kill -TERM $pid
  wait $pid || die "exit status $?"
}

# How much serve and record say.
test_log_levels() {
  local pid
  levels() { # INFO DEBUG OPTION...: whether each level is logged, 1 or 0
    local info=$1 debug=$2
    shift 2
    expect_status 0 "$nvmepf" record --rw read --number 1 "$@"
    [ "$(grep -c 'controller enabled' err)" = $info ] || die "record $*: $(cat err)"
    [ "$(grep -q 'submission queues: ' err && echo 1 || echo 0)" = $debug ] || die "record $*: $(cat err)"
    : >err
    "$nvmepf" serve --socket s "$@" >out 2>>err &
    pid=$!
    until grep -q 'serving on' err; do kill -0 $pid || die "$(cat err)"; done
    "$nvmepf" ns add --socket s --nsid 2 --backend null:1MiB >/dev/null || die "no namespace"
    python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect("s"); s.send(bytes(16)); s.recv(64)'
    kill -TERM $pid
    wait $pid || die "exit status $?"
    [ "$(grep -c 'client connected' err)" = $info ] || die "serve $*: $(cat err)"
  }
  levels 0 0 -q
  ! grep -q 'namespace 2 attached' err || die "$(cat err)"
  levels 0 0
  grep -q 'namespace 2 attached' err || die "$(cat err)"
  levels 1 0 -v
  levels 1 0 --log-level info
  levels 1 1 -vv
  levels 1 1 --log-level debug
  expect_refused 'log-level' "$nvmepf" record --kernel --log-level debug -- true
}

# A wait on the clock of the day would last as long as somebody sets that clock back.
test_waits_are_monotonic() {
  local calls
  calls=$(nm -D --undefined-only "$nvmepf" | sed -n 's/^ *U \([a-z_0-9]*\).*/\1/p' | sort -u)
  grep -qx sem_clockwait <<<"$calls" || die "no symbols: $(head -3 <<<"$calls")"
  ! grep -xE 'sem_timedwait|mq_timed(send|receive)|pthread_(cond|mutex|rwlock)_timed(wait|lock|rdlock|wrlock)' <<<"$calls" ||
    die "these wait on the clock of the day"
}

test_signals_leave_a_recording_alone() {
  local signal
  for signal in XFSZ USR1 USR2 ALRM VTALRM PROF PIPE IO PWR STKFLT RTMIN RTMAX; do
    signal=$(kill -l $signal)
    # Its parent is the watcher, whose parent is the recorder.
    "$nvmepf" record -- sh -c "kill -$signal \$PPID \$(ps -o ppid= -p \$PPID); exit 7" >out 2>err
    [ $? = 7 ] || die "SIG$signal: $(cat err)"
    "$nvmepf" info >/dev/null || die "SIG$signal: the trace is not closed"
    # The command has the disposition that it would have without us.
    "$nvmepf" record -- sh -c "kill -$signal \$\$; exit 7" >out 2>err
    [ $? -gt 128 ] || die "the command ignores SIG$signal"
  done
  "$nvmepf" record -- sh -c 'kill -XCPU $(ps -o ppid= -p $PPID); while :; do sleep 0.1; done' >out 2>err
  [ $? -gt 128 ] || die "SIGXCPU has not ended the command"
  "$nvmepf" info >/dev/null || die "SIGXCPU: the trace is not closed"
}

test_second_signal() {
  "$nvmepf" record -- sh -c 'trap "" TERM; : >started; while :; do sleep 0.1; done' >out 2>err &
  local recorder=$! status=0
  until [ -e started ]; do :; done
  kill -TERM $recorder
  # The command ignores it; asked again after the time of one request, the recorder kills it.
  while kill -TERM $recorder 2>/dev/null; do sleep 0.2; done
  wait $recorder || status=$?
  [ $status -gt 128 ] || die "exit status $status"
  # It holds no command to replay, but it was closed.
  expect_status 0 "$nvmepf" info
}

test_file_size_limit() {
  truncate -s 64M image
  (ulimit -f 30000; expect_status 1 timeout 60 "$nvmepf" record --backend ./image --rw randwrite --number 100
    grep -q '^nvmepf: [1-9][0-9]* of 100 commands failed, the first with NVMe status 0x[0-9a-f]* (type 0, code 0x81)$' err ||
      die "no line that says how many commands failed: $(cat err)") || exit 1
  expect_status 0 "$nvmepf" info
}

test_full_payload_and_repeat() {
  expect_status 0 "$nvmepf" record --payload full --backend memory --rw randrw --bs 128k --iodepth 4 --number 100
  expect_identical --repeat 100
}

test_flight_recorder() {
  expect_status 0 "$nvmepf" record --flight-recorder 2MiB --rw randread --iodepth 32 --runtime 2
  [ "$(stat -c %s nvmepf.nvpt)" -lt 4000000 ] || die "the file is not small: $(stat -c %s nvmepf.nvpt)"
  expect_identical
  # Of the host more is kept than of the engine, or less: nothing is taken for something else. Where only the engine's events are
  # kept, the four commands that the host has reaped may still count beside the next four, until the engine sees the new head.
  expect_status 0 "$nvmepf" record --flight-recorder 1MiB -- fio --name=t --rw=randread --bs=4k --iodepth=4 --time_based \
    --runtime=2 --output=/dev/null
  "$nvmepf" report --json >report.json
  [ "$(json 'd["commands"] > 1000 and d["queue_depth"] <= 4 and d["queue_depth_max"] <= 8' <report.json)" = True ] || die "$(head -c 600 report.json)"
}

test_fio_behind_others() {
  expect_status 0 "$nvmepf" record -- env A=1 nice fio --name=t --rw=read --bs=4k --size=4M --filename=/dev/null --output=/dev/null
  grep -q '/dev/null is not touched' err || die "no word of the file name: $(cat err)"
  [ "$("$nvmepf" info --json | json 'd["commands"]')" = 1024 ] || die "fio did not work on the endpoint"
  mkdir -p fio
  expect_status 3 "$nvmepf" record -- ls -d "$PWD" fio
  expect_status 3 "$nvmepf" record -- sh -c 'true'
  grep -q 'the endpoint received no commands' err || die "no word of what was not recorded: $(cat err)"
}

test_fio_ways() { "$here/fio-ways.sh" "$nvmepf" || exit 1; }

# What the user `nobody` may run: the build may lie where that user may not go.
copy_for_everybody() {
  local folder
  folder=$(mktemp -d) && chmod 755 "$folder" "$work" || die "no folder"
  cp "$release"/{nvmepf,libnvmepf-host.so,nvmepf-fio.so} "$folder"
  echo "$folder"
}

# With Yama, where this kernel has it, an ordinary user may read the memory of descendants alone.
test_fio_ways_as_an_ordinary_user() {
  [ "$(id -u)" = 0 ] || { echo "    NOT RUN: needs root, to become another user"; return; }
  local programs scope=/proc/sys/kernel/yama/ptrace_scope before status=0
  programs=$(copy_for_everybody)
  if [ -w $scope ]; then
    before=$(cat $scope)
    echo 1 >$scope
  else
    echo "    NOT RUN with ptrace_scope 1: this kernel has no Yama, or it cannot be set here"
  fi
  (cd / && HOME=/nonexistent setpriv --reuid=65534 --regid=65534 --clear-groups "$here/fio-ways.sh" "$programs/nvmepf") || status=1
  [ -z "${before:-}" ] || echo "$before" >$scope
  rm -rf "$programs"
  return $status
}

# The job files in fio's source, which building the engine has fetched.
test_fio_examples() {
  local version
  version=$(dpkg-query --show --showformat '${Version}' fio)
  "$here/fio-examples.sh" "$nvmepf" "${XDG_CACHE_HOME:-$HOME/.cache}/nvmepf/fio-$version/source/examples" || exit 1
}

# A daemon that a command leaves keeps no pipe open, and no folder in use; later it cannot run fio.
test_command_leaves_a_daemon() {
  mkfifo go
  export real=$(command -v fio)
  timeout 60 "$nvmepf" record -o d.nvpt -- sh -c \
    'fio --name=j --rw=read --bs=4k --size=64k; (read _; $real --name=late --rw=write --size=4k --filename=victim) <>go >/dev/null 2>late & echo $! >pid' \
    2>&1 | cat >out || die "the pipe stayed open: $(cat out)"
  kill -0 "$(cat pid)" || die "the daemon has ended with the recording"
  local process
  for process in /proc/[0-9]*; do
    ! { tr '\0' ' ' <"$process/cmdline" | grep -q -- '--exec-guard' && [ "$(readlink "$process/cwd")" = "$PWD" ]; } 2>/dev/null ||
      die "the watcher keeps the folder"
  done
  echo >go
  tail --pid="$(cat pid)" -f /dev/null
  grep -q 'its recording has ended' late || die "fio was not refused: $(cat late)"
  [ ! -e victim ] || die "fio wrote a file"
}

# Each file has blocks of its own, so verify finds what was written to it.
test_fio_several_files() {
  printf '[global]\nrw=randwrite\nbs=4k\nsize=2m\niodepth=8\nverify=crc32c\n[a]\nfilename=/dev/a:/dev/b\n[c]\nnrfiles=3\n[d]\nfilename=/dev/b\noffset=2m\n' >job.fio
  expect_status 0 "$nvmepf" record --backend memory --size 16MiB -- fio job.fio --output-format=json --output=fio.json
  [ "$(json 'sum(j["error"] for j in d["jobs"])' <fio.json)" = 0 ] || die "fio found errors"
  grep -q 'each file has its part of the namespace: /dev/a at 0 KiB' err || die "no mapping: $(cat err)"
  expect_identical
  ! "$nvmepf" record --backend memory --size 4MiB -- fio job.fio >out 2>err || die "files that overlap were verified"
  grep -q 'files do not fit into a namespace of 4096 KiB' err && ! grep -q 'bad header' err || die "no word of what does not fit: $(cat err)"
}

# A job that writes must not name a device; the recording before stays.
test_fio_names_device() {
  if ! mknod device b 7 4095 2>/dev/null; then
    echo "    NOT RUN: a device cannot be made here (needs root)"
    return 0
  fi
  local job="--name=t --rw=write --bs=4k --size=64k"
  "$nvmepf" record -- fio $job >/dev/null 2>&1
  cp nvmepf.nvpt before.nvpt
  ! "$nvmepf" record -- fio $job --name=d ${job#* } --filename=device >out 2>err || die "a device was named, and the job ran"
  [ "$(grep -c 'nvmepf: d: not run: .* names the device device: .*--allow-real-devices' err)" = 1 ] || die "$(cat err)"
  ! "$nvmepf" record -- fio $job --output=device >out 2>err || die "fio wrote its output to a device"
  grep -q 'output or log to device, which is a block device: .*--allow-real-devices' err || die "$(cat err)"
  cmp -s nvmepf.nvpt before.nvpt || die "a job that was refused has cost the trace before"
  expect_status 0 "$nvmepf" record --allow-real-devices -- fio $job --filename=device
  [ "$("$nvmepf" info --json | json 'd["commands"]')" = 16 ] || die "fio did not work on the endpoint"
}

test_fio_verify_needs_data() {
  local status=0
  "$nvmepf" record -- fio --name=t --rw=write --verify=crc32c --size=1M >out 2>err || status=$?
  [ $status != 0 ] && grep -q 'nvmepf record --backend memory' err || die "status $status: $(cat err)"
  ! grep -q multibyte out err || die "fio's own words: $(cat out)"
}

# What compares nothing needs no data.
test_fio_verify_that_compares_nothing() {
  local options
  for options in "--verify=crc32c --do_verify=0" --verify=null; do
    expect_status 0 "$nvmepf" record -- fio --name=t --rw=write $options --size=64k --bs=4k
    [ "$("$nvmepf" info --json | json 'd["commands"]')" -ge 16 ] || die "$options: fio did not work on the endpoint"
  done
}

# The endpoint serves one fio at a time; one that waits says so.
test_fio_waits_for_another() {
  expect_status 0 "$nvmepf" record -- fio --name=t --rw=read --size=64k --exec_prerun="echo fio"
  grep -q 'a fio that exec_prerun or exec_postrun starts blocks for ever' err || die "no warning: $(cat err)"
  cat >two.sh <<'END'
fio --name=long --rw=randread --time_based --runtime=300 --output=long.txt & long=$!
: >short.err
while ! grep -q 'waits for the endpoint' short.err; do
  fio --name=short --rw=read --size=64k --output=short.txt 2>>short.err & short=$!
  while kill -0 $short 2>/dev/null && ! grep -q 'waits for the endpoint' short.err; do sleep 0.1; done
done
kill $long
wait
END
  expect_status 0 timeout 120 "$nvmepf" record -- sh two.sh
  grep -q 'nvmepf: fio waits for the endpoint, which serves one host at a time' short.err || die "$(cat short.err)"
}

test_qemu_gets_its_device() {
  printf '#!/bin/sh\necho "$@"\n' >qemu-system-test
  chmod +x qemu-system-test
  expect_status 3 "$nvmepf" record -- ./qemu-system-test -m 1G
  grep -q -- '^-m 1G -device {"driver":"vfio-user-pci","socket":{"type":"unix","path":"/dev/shm/nvmepf-' out || die "$(cat out)"
  grep -q 'memory must be shared' err || die "no word of the memory: $(cat err)"
}

test_inject() {
  expect_status 0 "$nvmepf" record --backend memory:64MiB --rw randread --number 20 --inject delay=execute:20ms \
    --inject delay=data-out:1us,every=2,qid=1
  "$nvmepf" info >out 2>err || die "$(cat err)"
  [ "$(grep '^injected ' out)" = $'injected   delay=execute:20ms,spin\ninjected   delay=data-out:1us,qid=1,every=2,spin' ] ||
    die "info does not show what was injected: $(cat out)"
  expect_identical
  expect_exact_sums nvmepf.nvpt
  [ "$(json '[s["p50_ns"] > 19e6 for s in d["stages"] if s["stage"] == "execute"]' <report.json)" = "[True]" ] ||
    die "20 ms are not in execute: $("$nvmepf" report)"
  expect_refused 'not a stage of the engine' "$nvmepf" record --inject delay=reap:1us --rw read
  expect_refused 'a delay is delay=map:1us' "$nvmepf" record --inject map=1us --rw read
  expect_refused 'is not a fault; use delay, error, drop-completion,' "$nvmepf" record --inject drop --rw read
  expect_refused 'short-transfer needs data to transfer' "$nvmepf" record --inject short-transfer --rw read
  expect_refused '--inject needs an endpoint' "$nvmepf" record --kernel --inject delay=map:1us
}

# Ten troubles between host and device; every one replays.
test_stories() {
  local name story
  for name in lost-completion double-completion wrong-phase never-drained stuck-doorbell lost-interrupt slow-backend \
    reset-in-flight prp-off-by-one reused-cid; do
    "$here/../../scripts/stories.sh" stories $name >out 2>err || die "$name: $(cat out err)"
    story=stories/$name.nvpt
    grep -q '^identical: ' out || die "$name does not replay: $(cat out)"
    "$nvmepf" dump --event fault $story >faults
    case $name in
      never-drained | reset-in-flight | reused-cid) [ ! -s faults ] || die "$name has faults: $(cat faults)" ;;
      *) [ "$(grep -vc ' ended=1 ' faults)" = 1 ] || die "$name has not one fault: $(cat faults)" ;;
    esac
    [ "$(stat -c %s $story)" -lt 200000 ] || die "$name is large"
  done
  "$here/stories.py" "$nvmepf" stories || exit 1
  for story in "$here"/stories/*.script; do
    grep -v '^#' "$story" | while read -r line; do
      grep -qF "(nvmepf) $line" "$here/../../docs/debugging.md" || die "docs/debugging.md lacks '$line' of $story"
    done || exit 1
  done
  "$nvmepf" report stories/wrong-phase.nvpt >out 2>err
  head -1 out | grep -q '^1 fault was injected on purpose: 1 wrong-phase; nvmepf dump --event fault shows' || die "$(head -3 out)"
  "$nvmepf" dump --event fault stories/wrong-phase.nvpt >out
  grep -q '# fault wrong-phase, entry 0$' out || die "not entry 0: $(cat out)"
  "$nvmepf" dump --event interrupt stories/lost-interrupt.nvpt >out
  grep -q ' entries=8 ' out || die "nothing was coalesced"
  "$nvmepf" report --json stories/reused-cid.nvpt >out
  [ "$(json '[b["kind"] for b in d["host_behaviour"]]' <out)" = "['reused-identifier']" ] || die "$(cat out)"
}

test_debugger() {
  expect_status 0 "$nvmepf" record --rw randread --number 100
  printf 'goto end\n# a comment\n\n  why idle  \nquit\nnever reached\n' >script
  expect_status 0 "$nvmepf" replay --script script
  [ "$(grep -c '^(nvmepf) ' out)" = 3 ] || die "$(cat out)"
  expect_status 0 "$nvmepf" replay --interactive <script
  printf 'goto end\ndance\nwhy idle\n' >script
  expect_status 1 "$nvmepf" replay --script script
  [ "$(cat err)" = "nvmepf: script, line 2: there is no command 'dance'; help lists them" ] || die "$(cat err)"
  head -c 5000 /dev/zero | tr '\0' x >script
  expect_status 1 "$nvmepf" replay --script script
  expect_refused 'cannot open none' "$nvmepf" replay --script none
  expect_refused 'exclude each other' "$nvmepf" replay --script none --interactive
  expect_refused 'does not apply to the debugger' "$nvmepf" replay --script none --json
  # A trace of the kernel.
  printf '%s\n' 'break event == completion && status == internal-error' continue backtrace 'info twin' >script
  expect_status 0 "$nvmepf" replay --script script "$here/../../traces/nvmet-pci-epf.nvpt"
  for line in '^#19038 3.570724824 s CPU 0 completion: cqid 1, cid 49729,' '^command 1/49729 (write), submitted 1.10 ms ago:$' \
    '^It waited 374 µs until a worker started it, on CPU 0, behind$' '^  691 commands, each when the driver fetched it;'; do
    grep -q "$line" out || die "the debugger does not say '$line' of the kernel's trace: $(cat out)"
  done
  expect_refused 'has no controller 9' "$nvmepf" replay --script script --controller 9 "$here/../../traces/nvmet-pci-epf.nvpt"
  # On a terminal: completion, an error that does not end it, the end of input.
  python3 - "$nvmepf" <<'P' || exit 1
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], [sys.argv[1], "replay", "--interactive"])
text = b""
def wait(wanted):
    global text
    while wanted not in text:
        text += os.read(terminal, 4096)
    text = text[text.index(wanted) + len(wanted):]
for typed, wanted in [(b"", b"(nvmepf) "), (b"rev\t", b"erse-"), (b"dance\n", b"there is no command"),
                      (b"goto end\n", b"(nvmepf) "), (b"info reg\t\n", b"CSTS"), (b"", b"(nvmepf) "), (b"\x04", b"")]:
    os.write(terminal, typed)
    wait(wanted)
while True:
    try:
        if not os.read(terminal, 4096): break
    except OSError: break
assert os.waitpid(pid, 0)[1] == 0
P
}

test_inject_file_and_seed() {
  printf '# every tenth read\nerror=0x281,rate=0.1\n\ndelay=map:1us,every=50 # rarely\n' >faults.txt
  expect_status 1 "$nvmepf" record --rw randread --number 200 --inject-file faults.txt --inject-seed 7
  expect_identical
  "$nvmepf" info >out
  grep -q '^inject-seed *7$' out || die "no seed: $(cat out)"
  "$nvmepf" dump --event fault | grep -c 'fault=1 ' >first
  expect_status 1 "$nvmepf" record --rw randread --number 200 --inject-file faults.txt --inject-seed 7
  "$nvmepf" dump --event fault | grep -c 'fault=1 ' >second
  cmp -s first second || die "the same seed strikes $(cat first), then $(cat second) commands"
  "$nvmepf" record --rw randread --number 20 --inject error=0x281,rate=0.5 >out 2>err
  grep -q 'nvmepf: --inject-seed [0-9]* repeats' err || die "no seed is told: $(cat err)"
  grep -q 'nvmepf: injected [0-9]* error$' err || die "no count is told: $(cat err)"
  expect_status 0 "$nvmepf" record --rw randread --number 20 --inject stall,qid=7
  grep -q 'injected no fault: nothing fulfilled the conditions' err || die "$(cat err)"
  echo 'drop-complete' >faults.txt
  expect_refused 'faults.txt: line 1: drop-complete: "drop-complete" is not a fault' "$nvmepf" record --rw read --inject-file faults.txt
  expect_refused 'missing.txt cannot be read' "$nvmepf" record --rw read --inject-file missing.txt
  expect_refused '--inject-seed needs --inject' "$nvmepf" record --rw read --inject-seed 3
  expect_refused '--interrupts, --recover and --misbehave need --rw' "$nvmepf" record --recover -- true
  expect_refused 'work with one job' "$nvmepf" record --rw read --recover --numjobs 2
}

test_recover() {
  expect_status 1 "$nvmepf" record --rw randread --iodepth 4 --number 1000 --timeout 0.3 --recover \
    --inject drop-completion,after=500,once
  grep -q '1 timeout, 1 abort, 1 reset; 1 command given up' err || die "$(cat err)"
  expect_identical
}

test_torment() {
  expect_status 0 "$nvmepf" torment -o tor --number 600 --inject drop-completion,after=300,once --inject error=0x6,every=100 --json
  valid torment
  [ "$(json '[(r["fault"], r["injected"], r["errors"], r["aborts"], r["resets"], r["replay"], r["gave_up"]) for r in d["runs"]]' <out)" = \
    "[('drop-completion,after=300,once', 1, 0, 1, 1, 'identical', False), ('error=internal-error,every=100', 6, 6, 0, 0, 'identical', False)]" ] ||
    die "$(cat out)"
  expect_identical tor/01-drop-completion.nvpt
  expect_status 0 "$nvmepf" torment -o tor --inject delay=execute:1us -- fio --name=t --rw=read --size=64k --output=t.txt
  grep -q '^1 of 1 fault survived; the traces are in tor' out || die "$(cat out)"
  expect_status 1 "$nvmepf" torment -o tor --inject delay=execute:1us -- false
  grep -q 'exit status 1' out || die "$(cat out)"
  expect_refused 'exclude each other' "$nvmepf" torment --socket s -- true
  "$nvmepf" inject --list --json >out
  valid faults
  "$nvmepf" inject --list wrong-phase >out
  grep -q '4\.2\.4)$' out || die "$(cat out)"
  [ "$(awk 'length > 80' out)" = "" ] || die "lines are longer than 80 columns"
  expect_refused 'inject shows faults with --list' "$nvmepf" inject
  expect_refused 'nonsense is not a fault' "$nvmepf" inject --list nonsense
}

test_dump() {
  "$nvmepf" record --rw randread --number 100 2>/dev/null
  [ "$("$nvmepf" dump --event fetch --qid 1 | wc -l)" = 100 ] || die "not 100 fetches"
  "$nvmepf" dump --json --limit 200 | python3 -c 'import json,sys; [json.loads(l) for l in sys.stdin]' || die "not JSON"
  [ "$("$nvmepf" dump --event fetch --event completion --qid 1 | grep -c ' engine/0 ')" = 200 ] || die "not both kinds"
  "$nvmepf" dump --event fetch --qid 1 >out
  grep -q '# opcode read, nsid 1, slba [0-9]*, blocks 8, data prp$' out || die "no names: $(head -1 out)"
  local command all slow fast
  all=$("$nvmepf" dump --stage 'total>=0' --event fetch | wc -l)
  slow=$("$nvmepf" dump --slower-than 20us --event fetch | wc -l)
  fast=$("$nvmepf" dump --stage 'total<=20us' --event fetch | wc -l)
  [ $((slow + fast)) = "$all" ] || die "$slow slow and $fast fast commands, of $all"
  [ "$("$nvmepf" dump --opcode read --event fetch | wc -l)" = 100 ] || die "not 100 reads"
  "$nvmepf" dump --failed >out
  [ ! -s out ] || die "failed commands: $(cat out)"
  slow=$("$nvmepf" dump --opcode read --slower-than 20us --event fetch | wc -l)
  [ "$("$nvmepf" dump --where 'opcode == read && total > 20us' --event fetch | wc -l)" = "$slow" ] || die "not $slow"
  [ "$("$nvmepf" dump --events-where 'event == fetch && qid == 1 && opcode == read' | wc -l)" = 100 ] || die "not 100"
  [ "$("$nvmepf" dump --events-where 'event == completion && status != 0' | wc -l)" = 0 ] || die "failed completions"
  "$nvmepf" report --where '!(total <= 20us) && opcode == read' >out
  grep -q "selects $slow of 100 complete" out || [ "$slow" = 100 ] || die "$(cat out)"
  "$nvmepf" report --json --window 10s --slowest 2 >out
  [ "$(json 'sum(w["commands"] for w in d["windows"])' <out)" = 100 ] || die "windows without commands"
  [ "$(json 'len(d["slowest"])' <out)" = 2 ] || die "not two commands"
  "$nvmepf" report --opcode write >out
  grep -q 'selects 0 of 100 complete' out || die "$(cat out)"
  for command in info report dump "report --json"; do
    "$nvmepf" $command >/dev/full 2>err && die "$command says that all is well on a full disk"
    grep -q 'No space left' err || die "$command: $(cat err)"
  done
}

# The table of docs/scripting.md.
test_exit_statuses() {
  local verb
  expect_status 3 "$nvmepf" record -o empty.nvpt -- true
  grep -q 'the endpoint received no commands' err || die "no word of it: $(cat err)"
  expect_status 2 "$nvmepf" replay empty.nvpt
  grep -q '^nothing to compare: the trace holds no command' out || die "$(cat out err)"
  expect_status 2 "$nvmepf" replay --json empty.nvpt
  [ "$(json 'd["result"]' <out)" = "nothing to compare" ] || die "$(cat out)"
  expect_status 0 "$nvmepf" info empty.nvpt
  expect_status 4 "$nvmepf" record -- sh -c 'exit 4'
  expect_status 0 "$nvmepf" record -o t.nvpt --rw randread --number 100
  for verb in info report dump replay; do expect_status 0 "$nvmepf" $verb t.nvpt; done
  # The index and the end are cut off: not closed.
  head -c "$(($(stat -c %s t.nvpt) - 100))" t.nvpt >open.nvpt
  for verb in info report dump replay; do
    expect_status 2 "$nvmepf" $verb open.nvpt
    [ -s out ] && [ -s err ] || die "$verb of a trace that was not closed prints too little: $(cat out err)"
    expect_status 2 "$nvmepf" $verb missing.nvpt
  done
}

# Commands that never completed are named, by whoever reads the trace.
test_unfinished_commands() {
  local verb
  expect_status 1 timeout 60 "$nvmepf" record --backend null:1GiB,constant:1000s --rw read --iodepth 2 --timeout 0.5
  # The host gave them up and disconnected: then they are not unfinished.
  for verb in info report replay; do
    expect_status 0 "$nvmepf" $verb
    ! grep -q 'last event' out || die "$verb calls them unfinished: $(cat out)"
  done
  "$nvmepf" report | tr -s '\n ' ' ' | grep -q '2 commands did not complete because the host disconnected' ||
    die "$("$nvmepf" report)"
  # Here the trace ends first.
  "$nvmepf" record -o k.nvpt --backend null:1GiB,constant:1000s --rw read --iodepth 2 2>/dev/null &
  until [ "$("$nvmepf" dump --event execute-begin --qid 1 k.nvpt 2>/dev/null | wc -l)" = 2 ]; do
    kill -0 $! 2>/dev/null || die "it has ended"
  done
  kill -9 $!
  wait $! 2>/dev/null
  expect_status 0 "$nvmepf" repair k.nvpt
  for verb in info report replay; do
    "$nvmepf" $verb k.nvpt >out 2>err
    [ "$(tr -s '\n ' ' ' <out | grep -o 'command [0-9]* of queue 1 (read), [^;]* old; last event [0-9]*, execute-begin, [^;]*; the backend has not completed it' | wc -l)" = 2 ] ||
      die "$verb does not name them: $(cat out)"
    "$nvmepf" $verb --json k.nvpt >out 2>err
    [ "$(json '[(c["qid"], c["opcode"], c["owed"]) for c in d["unfinished_commands"]]' <out)" = "[(1, 2, 'backend'), (1, 2, 'backend')]" ] ||
      die "$verb --json: $(cat out)"
  done
}

# SCHEMA [--lines]: `out` is as docs/schema says.
valid() { "$here/validate.py" "$here/../../docs/schema/$1.json" "${@:2}" <out || die "$* does not hold: $(head -c 400 out)"; }

# What the pages promise of the output for programs.
test_json() {
  local trace verb
  expect_status 0 "$nvmepf" record --backend memory --size 16MiB --rw randrw --number 200
  for trace in nvmepf.nvpt "$here"/../../traces/*.nvpt; do
    for verb in info report replay; do
      "$nvmepf" $verb --json "$trace" >out 2>err
      valid $verb
    done
    "$nvmepf" report --json --by opcode --window 1s --slowest 2 --stage 'total>=0' "$trace" >out 2>err
    valid report
    [ "$(json 'sum(w["commands"] for w in d["windows"]) == d["commands"] == d["selected_among"]' <out)" = True ] ||
      die "parts that are not the whole: $trace"
    if [ "$(json 'd["commands"] > 0' <out)" = True ]; then
      "$nvmepf" report --json --command "$(json '"{qid}:{cid}@{begin_ns}".format(**d["slowest"][0])' <out)" "$trace" >one
      json "d['command'] == $(json 'd["slowest"][0]' <out)" <one | grep -q True || die "not the same command: $(cat one)"
      cp one out
      valid command
    fi
    "$nvmepf" dump --json "$trace" >out 2>err
    valid dump --lines
  done
  "$nvmepf" diff --json nvmepf.nvpt nvmepf.nvpt >out 2>err
  valid diff
  expect_status 0 "$nvmepf" simulate --seed 3 --commands 500 --json
  valid simulate
  "$nvmepf" doctor --json >out 2>err
  valid doctor
  expect_status 0 "$nvmepf" bench --turns 1 --seconds 0.1 --json
  valid bench
  "$nvmepf" record -- sh -c '"$NVMEPF" ns list --json --socket "$NVMEPF_SOCKET" >list.json' 2>/dev/null
  cp list.json out
  valid namespaces
  # Errors too, wherever they come from.
  for verb in "info missing.nvpt" "report nvmepf.nvpt --nonsense" "ns list --socket nowhere" "merge nvmepf.nvpt missing.nvpt"; do
    expect_status 2 "$nvmepf" $verb --json
    valid error
    [ "$(json 'd["status"], d["error"] in open("err").read()' <out)" = "2 True" ] || die "$verb: $(cat out err)"
  done
  expect_status 2 "$nvmepf" info missing.nvpt
  [ ! -s out ] || die "without --json: $(cat out)"
}

# A second analysis agrees on what commands of the kernel's driver waited behind.
test_driver_waits() {
  "$here/../../analysis/driver.py" --against "$nvmepf" "$here/../../traces/nvmet-pci-epf.nvpt" >out || die "$(cat out)"
  grep -q "734 commands waited .* all of it agrees" out || die "$(cat out)"
}

test_exit_status_of_the_command() {
  expect_status 7 "$nvmepf" record -- sh -c 'exit 7'
  expect_status 3 "$nvmepf" record -- sh -c 'test -S "$NVMEPF_SOCKET"'
  [ ! -e "/dev/shm/nvmepf-$("$nvmepf" info --json | json 'd["id"]')" ] || die "its rings are still there"
}

# Only a recording of something takes the place of the trace before it, which is kept.
test_previous_trace_is_kept() {
  local pid sleeping
  "$nvmepf" record --rw randread --number 10 2>/dev/null
  cp nvmepf.nvpt first
  expect_status 1 "$nvmepf" record -- fio --name=t --rw=reed
  grep -q 'nothing was recorded; nvmepf.nvpt is unchanged' err || die "no word of it: $(cat err)"
  expect_status 7 "$nvmepf" record -- sh -c 'exit 7'
  # Nothing of these reaches the endpoint either, though they succeed.
  local command
  for command in true "fio --showcmd --name=t --rw=read --size=4k"; do
    expect_status 3 "$nvmepf" record -- $command
    grep -q 'nothing was recorded; nvmepf.nvpt is unchanged' err || die "no word of it: $(cat err)"
  done
  expect_refused 'bytes: choose another\|No such file' "$nvmepf" record --backend ./nowhere --rw read
  cmp -s nvmepf.nvpt first || die "the trace before was lost"
  [ "$(ls | grep -c nvpt)" = 1 ] || die "something was left: $(ls)"
  expect_status 0 "$nvmepf" record --rw randread --number 20
  cmp -s nvmepf.nvpt.old first || die "the trace before was not kept"
  [ "$("$nvmepf" info --json | json 'd["commands"], d["complete"]')" = "20 True" ] || die "$("$nvmepf" info)"
  # Killed before and behind its first command.
  "$nvmepf" record -- sh -c 'echo $$ >sleeping; exec sleep 1000' 2>err &
  pid=$!
  until [ -s sleeping ] && [ -s nvmepf.nvpt.part ]; do kill -0 $pid || die "$(cat err)"; done
  sleeping=$(cat sleeping)
  kill -9 $pid $sleeping
  wait $pid 2>/dev/null
  [ "$("$nvmepf" info --json | json 'd["commands"]')" = 20 ] || die "the trace before was lost"
  expect_status 0 "$nvmepf" repair nvmepf.nvpt.part
  rm nvmepf.nvpt.part
  "$nvmepf" record --rw randread --runtime 60 2>/dev/null &
  pid=$!
  while cmp -s nvmepf.nvpt.old first; do kill -0 $pid || die "it has ended"; done
  until [ -e nvmepf.nvpt ]; do :; done
  expect_refused 'is being recorded to' "$nvmepf" record --rw read --number 1
  kill -9 $pid
  wait $pid 2>/dev/null
  expect_status 0 "$nvmepf" repair nvmepf.nvpt
  expect_identical
  # A link is written through.
  ln -s elsewhere.nvpt link.nvpt
  expect_status 0 "$nvmepf" record -o link.nvpt --rw read --number 1
  [ -L link.nvpt ] && expect_identical elsewhere.nvpt
}

test_interrupt() {
  local pid
  (trap - INT; exec "$nvmepf" record --rw randread --runtime 60) 2>err &
  pid=$!
  until [ -s nvmepf.nvpt ] && [ "$("$nvmepf" info --json 2>/dev/null | json 'd["chunks"]' 2>/dev/null)" -gt 2 ] 2>/dev/null; do :; done
  kill -INT $pid
  wait $pid || die "exit status $?: $(cat err)"
  [ "$("$nvmepf" info --json | json 'd["complete"]')" = True ] || die "not complete"
  expect_identical
}

# Time added at each known point is shown in exactly one place.
test_truth() {
  expect_status 0 "$nvmepf" simulate --truth --json
  valid truth
  [ "$(json 'sum(p["failures"] == [] for p in d["points"])' <out)" = 26 ] || die "$(head -c 400 out)"
}

test_simulate() {
  local pid name
  for name in a b; do expect_status 0 "$nvmepf" simulate --seed 1 --commands 20000 -o $name.nvpt; done
  grep -q ' simulated and recorded at [0-9,]* commands/s, replayed at [0-9,]* commands/s$' out || die "$(cat out)"
  cmp a.nvpt b.nvpt || die "the same seed gives two traces"
  [ "$("$nvmepf" info --json a.nvpt | json 'd["sources"]')" = "['engine', 'host']" ] || die "the host's events are missing"
  expect_identical a.nvpt
  "$nvmepf" simulate --seed 3 --seeds 2 --commands 500 --json >out 2>err || die "$(cat out err)"
  [ "$(json 'd["first_seed"], d["seeds"], d["commands"] >= 1000, d["interrupted"]' <out)" = "3 2 True False" ] || die "$(cat out)"
  (trap - INT; exec "$nvmepf" simulate --seed 1 --commands 100000000000 -o long.nvpt) >out 2>err &
  pid=$!
  until [ "$("$nvmepf" info long.nvpt --json 2>/dev/null | json 'd["chunks"]' 2>/dev/null)" -gt 2 ] 2>/dev/null; do
    kill -0 $pid 2>/dev/null || die "it has ended: $(cat out err)"
  done
  kill -INT $pid
  wait $pid
  [ $? = 130 ] || die "not the status of who is interrupted: $(cat out err)"
  grep -q '^seed 1: interrupted without a violation: ' out || die "$(cat out err)"
  [ "$("$nvmepf" info long.nvpt --json | json 'd["complete"]')" = True ] || die "not complete"
  expect_identical long.nvpt
}

test_interrupt_is_passed_on() {
  local pid
  (trap - INT; exec "$nvmepf" record -- sh -c ': >started; exec sleep 1000') 2>err &
  pid=$!
  until [ -e started ]; do kill -0 $pid 2>/dev/null || die "it has ended: $(cat err)"; done
  kill -INT $pid
  wait $pid
  [ $? = 130 ] || die "not the status of who is interrupted: $(cat err)"
}

test_damage() {
  local verb
  expect_status 0 "$nvmepf" record -o whole.nvpt --rw randread --number 100000
  cp whole.nvpt damaged.nvpt
  printf '\xff\x00\xff' | dd of=damaged.nvpt bs=1 seek="$(($(stat -c %s whole.nvpt) / 2))" conv=notrunc status=none
  [ "$("$nvmepf" info --json whole.nvpt | json 'd["complete"]')" = True ] || die "it is whole"
  expect_status 2 "$nvmepf" info --json damaged.nvpt
  [ "$(json 'd["complete"], d["commands"]' <out)" = "False 100000" ] || die "damage is not seen: $(cat out)"
  grep -q 'fails its checksum.*nvmepf repair' err || die "no word of the damage: $(cat err)"
  head -c "$(($(stat -c %s whole.nvpt) / 2))" whole.nvpt >half.nvpt
  for verb in info report "dump --limit 10"; do
    expect_status 2 "$nvmepf" $verb half.nvpt
    [ -s out ] && grep -q 'nvmepf repair half.nvpt' err || die "$verb prints too little: $(cat out err)"
  done
  expect_status 2 "$nvmepf" replay half.nvpt
  grep -q '^identical' out && grep -q 'not closed' out || die "not what is to be said of a half: $(cat out)"
  expect_status 0 "$nvmepf" repair half.nvpt
  "$nvmepf" info half.nvpt | grep -q '^complete *as far as a repair' || die "$("$nvmepf" info half.nvpt)"
  expect_identical half.nvpt
  expect_status 0 "$nvmepf" repair damaged.nvpt
  [ "$("$nvmepf" info --json damaged.nvpt | json 'd["repaired"] and d["lost"] > 0')" = True ] || die "$("$nvmepf" info damaged.nvpt)"
  head -c 90000 "$here/../../traces/nvmet-pci-epf.nvpt" >kernel.nvpt
  expect_status 2 "$nvmepf" replay kernel.nvpt
}

test_cut() {
  expect_status 0 "$nvmepf" simulate --seed 3 --commands 20000 -o run.nvpt
  expect_status 0 "$nvmepf" cut run.nvpt --from 10ms --to 10.5ms -o part.nvpt
  grep -q 'replays identically' out || die "not what it wrote: $(cat out)"
  expect_identical part.nvpt
  [ "$(stat -c %s part.nvpt)" -lt 60000 ] || die "it is not small: $(stat -c %s part.nvpt)"
  cmp -s <("$nvmepf" dump --from 10ms --to 10.5ms --event fetch run.nvpt | cut -d' ' -f1) \
    <("$nvmepf" dump --from 10ms --to 10.5ms --event fetch part.nvpt | cut -d' ' -f1) || die "other events than in the period"
  expect_status 0 "$nvmepf" cut --json run.nvpt --to 1ms -o part.nvpt
  valid edit
  [ -e part.nvpt.old ] || die "the previous trace is gone"
  expect_status 0 "$nvmepf" cut "$here/../../traces/nvmet-pci-epf.nvpt" --from 1s --to 2s -o kernel.nvpt
  grep -q 'does not replay: it begins after the host enabled' err || die "no word of the driver: $(cat err)"
  expect_refused 'No such file' "$nvmepf" cut missing.nvpt --from 1ms -o x.nvpt
  expect_refused 'must be before' "$nvmepf" cut run.nvpt --from 2ms --to 1ms -o x.nvpt
  expect_status 0 "$nvmepf" cut "$here/../../traces/two-queues.nvpt" --qid 2 -o queue.nvpt
  expect_identical queue.nvpt
  [ "$("$nvmepf" dump --event fetch --qid 1 queue.nvpt | wc -l)" = 0 ] || die "another queue is left"
  [ "$("$nvmepf" dump --event fetch --qid 2 queue.nvpt | wc -l)" = 240 ] || die "commands of the queue are missing"
  expect_refused 'that this version replays' "$nvmepf" cut "$here/../../traces/nvmet-pci-epf.nvpt" --qid 1 -o x.nvpt
  expect_refused 'is required' "$nvmepf" cut run.nvpt -o x.nvpt
  expect_refused 'no events in this period; it ends at' "$nvmepf" cut run.nvpt --from 1000s -o x.nvpt
  expect_refused 'is the trace to read' "$nvmepf" cut run.nvpt --from 1ms -o ./run.nvpt
  expect_refused 'cannot replace /dev/null' "$nvmepf" cut run.nvpt --from 1ms -o /dev/null
  mkdir -p small
  if mount -t tmpfs -o size=16k tmpfs small 2>/dev/null; then
    echo before >small/t.nvpt
    expect_refused 'No space left' "$nvmepf" cut run.nvpt --from 1ms -o small/t.nvpt
    [ "$(ls small)" = t.nvpt ] && [ "$(cat small/t.nvpt)" = before ] || die "left on the full disk: $(ls small)"
    umount small
  else
    echo "    NOT RUN: a small tmpfs cannot be mounted here (needs root)"
  fi
  [ ! -e x.nvpt ] && [ -z "$(ls | grep 'nvpt\.[A-Za-z0-9]\{6\}$')" ] || die "an unfinished file stays: $(ls)"
}

test_divergence() {
  expect_status 0 "$nvmepf" simulate --seed 3 --commands 1000 -o run.nvpt
  expect_status 0 "$nvmepf" replay --keep-going run.nvpt
  grep -q '^identical: ' out || die "$(cat out)"
  [ "$("$nvmepf" replay --keep-going --json run.nvpt | json '(d["divergences"], d["not_compared"], "divergence" in d)')" = \
    "([], 0, False)" ] || die "$("$nvmepf" replay --keep-going --json run.nvpt)"
  expect_refused 'does not apply to the debugger' "$nvmepf" replay --keep-going --interactive run.nvpt
}

test_minimize() {
  expect_status 0 "$nvmepf" simulate --seed 3 --commands 1000 -o run.nvpt
  expect_refused 'replays identically' "$nvmepf" minimize run.nvpt --expect diverged -o x.nvpt
  expect_refused 'nonsense' "$nvmepf" minimize run.nvpt --expect nonsense -o x.nvpt
  expect_refused 'nothing in it is total > 1000s' "$nvmepf" minimize run.nvpt --expect 'total > 1000s' -o x.nvpt
  expect_status 0 "$nvmepf" minimize run.nvpt --expect 'event == completion && cqid == 1' -o event.nvpt
  [ "$("$nvmepf" dump --event completion --qid 1 event.nvpt | wc -l)" -gt 0 ] || die "the event is missing: $("$nvmepf" dump event.nvpt)"
  expect_status 0 "$nvmepf" minimize run.nvpt --expect 'total > 20us && opcode == read' -o command.nvpt
  [ "$("$nvmepf" dump --where 'total > 20us && opcode == read' command.nvpt | wc -l)" -gt 5 ] || die "the command is missing"
  expect_identical command.nvpt
  rm event.nvpt command.nvpt
  expect_refused 'no events of our endpoint' "$nvmepf" minimize "$here/../../traces/nvmet-pci-epf.nvpt" --expect diverged -o x.nvpt
  expect_refused 'layout 4' "$nvmepf" minimize "$here/../Traces/state-4.nvpt" --expect diverged -o x.nvpt
  [ "$(ls)" = "$(printf 'err\nout\nrun.nvpt')" ] || die "an unfinished file stays: $(ls)"
}

test_anonymize() {
  expect_status 0 "$nvmepf" record -o run.nvpt --serial SECRET1234 --nqn nqn.2026-01.secret:subsystem --backend memory --size 64MiB \
    --rw randrw --number 2000
  expect_status 0 "$nvmepf" anonymize run.nvpt -o public.nvpt
  grep -q 'replays identically' out || die "not what it wrote: $(cat out)"
  expect_identical public.nvpt
  "$nvmepf" info --json run.nvpt | grep -q 'SECRET1234' || die "nothing was planted"
  { "$nvmepf" info --json public.nvpt; cat public.nvpt; } | grep -qai 'secret\|randrw' && die "a name is left"
  cmp -s <("$nvmepf" report --json run.nvpt) <("$nvmepf" report --json public.nvpt) || die "the report has changed"
  expect_status 0 "$nvmepf" anonymize --json --keep-lba run.nvpt -o public.nvpt
  valid edit
  cmp -s <("$nvmepf" dump --event execute-begin run.nvpt) <("$nvmepf" dump --event execute-begin public.nvpt) || die "blocks have changed"
  expect_status 0 "$nvmepf" anonymize "$here/../../traces/nvmet-pci-epf.nvpt" -o kernel.nvpt
  cmp -s <("$nvmepf" replay "$here/../../traces/nvmet-pci-epf.nvpt") <("$nvmepf" replay kernel.nvpt) || die "the driver's replay has changed"
  expect_refused 'No such file' "$nvmepf" anonymize missing.nvpt -o x.nvpt
  expect_refused 'is the trace to read' "$nvmepf" anonymize run.nvpt -o run.nvpt
  expect_refused 'layout 4' "$nvmepf" anonymize "$here/../Traces/state-4.nvpt" -o x.nvpt
  [ ! -e x.nvpt ] && [ -z "$(ls | grep 'nvpt\.[A-Za-z0-9]\{6\}$')" ] || die "an unfinished file stays: $(ls)"
}

test_killed_recorder() {
  local seed=${NVMEPF_SEED:-$RANDOM} turn pid id bytes
  echo "    seed $seed"
  RANDOM=$seed
  for turn in $(seq 50); do
    rm -f k.nvpt
    "$nvmepf" record -o k.nvpt --rw randrw --backend memory --size 64MiB --iodepth $((1 + RANDOM % 32)) --runtime 60 2>/dev/null &
    pid=$!
    # When the trace has grown so far, before its first chunk or somewhere behind it.
    bytes=$((1 + RANDOM * 4))
    until [ -e k.nvpt ]; do :; done
    tail --pid=$pid -c +1 -f k.nvpt 2>/dev/null | head -c $bytes >/dev/null
    kill -9 $pid || die "turn $turn: it has ended by itself"
    wait $pid 2>/dev/null
    expect_status 2 "$nvmepf" info --json k.nvpt
    id=$(json 'd["id"]' <out) || die "turn $turn: not readable"
    expect_status 0 "$nvmepf" repair k.nvpt
    [ "$("$nvmepf" info --json k.nvpt | json 'd["complete"], d["lost"]')" = "True 0" ] || die "turn $turn: $("$nvmepf" info k.nvpt)"
    [ ! -e "/dev/shm/nvmepf-$id" ] || die "turn $turn: its rings are still there"
    # Killed before its first command, it holds nothing to compare.
    "$nvmepf" dump --event fetch --limit 1 k.nvpt >first 2>/dev/null
    [ ! -s first ] || expect_identical k.nvpt
  done
}

test_killed_recorder_with_a_full_ring() {
  "$here/full-ring.py" "$nvmepf" || exit 1
  expect_status 0 "$nvmepf" repair t.nvpt
  [ "$("$nvmepf" info --json t.nvpt | json 'd["complete"], d["lost"]')" = "True 0" ] || die "$("$nvmepf" info t.nvpt)"
  expect_identical t.nvpt
}

test_full_disk() {
  mkdir -p small
  if ! mount -t tmpfs -o size=192k tmpfs small 2>/dev/null; then
    echo "    NOT RUN: a small tmpfs cannot be mounted here (needs root)"
    return 0
  fi
  "$nvmepf" record -o small/t.nvpt --backend memory --size 64MiB -- fio --name=t --rw=randrw --verify=crc32c --bs=4k \
    --iodepth=8 --size=32M --output-format=json --output=fio.json >out 2>err
  [ $? = 1 ] || die "exit status is not 1: $(cat err)"
  "$nvmepf" info --json small/t.nvpt >info.json 2>/dev/null
  umount small
  grep -q 'No space left' err || die "no word of the full disk: $(cat err)"
  [ "$(json 'd["jobs"][0]["error"]' <fio.json)" = 0 ] || die "the workload was harmed"
  [ "$(json 'd["events"] > 0' <info.json)" = True ] || die "not readable: $(cat info.json)"
}

test_refusals() {
  local port
  expect_refused 'unknown option' "$nvmepf" record --nonsense -- true
  expect_refused 'nothing to record' "$nvmepf" record
  expect_refused 'no command recrod (did you mean record?); nvmepf --help' "$nvmepf" recrod
  expect_refused 'no command lst (did you mean list?); nvmepf ns --help' "$nvmepf" ns lst
  expect_refused 'no command dmp (did you mean dump?)' "$nvmepf" help dmp
  expect_refused 'No such file' "$nvmepf" replay missing.nvpt
  expect_refused 'not a trace' "$nvmepf" report /bin/ls
  expect_refused 'not a file' "$nvmepf" info /
  expect_refused 'dma-map, dma-unmap' "$nvmepf" dump --event nonsense
  expect_refused 'must be before' "$nvmepf" dump --from 2ms --to 1ms
  expect_refused 'must be before' "$nvmepf" report --from 2ms --to 1ms
  expect_refused 'the names are total, detect' "$nvmepf" dump --stage 'sleep>5us'
  expect_refused 'a name such as lba-out-of-range' "$nvmepf" report --status fine
  expect_refused 'a name such as read' "$nvmepf" report --opcode reed
  expect_refused 'the first and the last' "$nvmepf" dump --lba 8-7
  expect_refused 'column 1: there is no .exekute.*the names are qid' "$nvmepf" report --where 'exekute > 5us'
  expect_refused 'column 17: stage.execute is a time, and there is no .read.' "$nvmepf" dump --where 'stage.execute > read'
  expect_refused 'did you mean completion' "$nvmepf" dump --events-where 'event == completon'
  expect_refused 'commands have no earlier values' "$nvmepf" dump --where 'qid changes'
  expect_refused 'has not failed' "$nvmepf" dump --failed --status success
  expect_refused 'no such field' "$nvmepf" dump --event reset --qid 1
  expect_refused 'between 1 and 1000' "$nvmepf" report --slowest 0
  expect_refused 'excludes --slowest' "$nvmepf" report --command 1:2@3us --slowest 2
  expect_refused 'exclude each other' "$nvmepf" record --config c.json --queues 4 --rw read
  "$nvmepf" record -o n.nvpt --rw randread --number 10 2>/dev/null
  cp n.nvpt before.nvpt
  expect_refused 'multiple of 512' "$nvmepf" record -o n.nvpt --rw randread --bs 3000
  expect_refused 'has room for 1023' "$nvmepf" record -o n.nvpt --rw randread --iodepth 1024
  expect_refused 'multiple of 4096' "$nvmepf" record -o n.nvpt --rw randread --bs 512 --block-size 4096
  expect_refused 'No such file' "$nvmepf" record -o n.nvpt --rw randread --backend ./nowhere
  cmp -s n.nvpt before.nvpt || die "what could not begin has cost the trace before"
  expect_refused 'has no controller 1 of the kernel' "$nvmepf" replay --controller 1 n.nvpt
  expect_refused 'only 1$' "$nvmepf" replay --controller 7 "$here/../../traces/nvmet-pci-epf.nvpt"
  expect_refused 'not a recording of a kernel' "$nvmepf" merge n.nvpt n.nvpt
  expect_refused 'not a socket' "$nvmepf" serve --socket n.nvpt
  "$nvmepf" record -o n.nvpt --rw randread --number 10 2>/dev/null
  printf '\x02' | dd of=n.nvpt bs=1 seek=8 conv=notrunc status=none
  expect_refused 'newer nvmepf' "$nvmepf" replay n.nvpt
  expect_refused 'No such file or directory' "$nvmepf" record -o nowhere/t.nvpt --rw randread
  expect_refused 'bytes: choose another' "$nvmepf" serve --socket "/tmp/$(printf 'x%.0s' $(seq 200))"
  "$nvmepf" serve --socket s.sock 2>/dev/null &
  port=$!
  until [ -S s.sock ]; do :; done
  expect_refused 'in use' "$nvmepf" serve --socket s.sock
  kill $port
  wait $port
  expect_refused 'apt-get install fio' env PATH=/nowhere "$nvmepf" record -- fio --name=t
  expect_refused 'cannot run' "$nvmepf" record -- /nowhere/command
  # Nobody shall make a file where a device belongs.
  expect_refused 'No such file or directory$' "$nvmepf" record --backend /dev/nowhere --rw read
  if [ "$(id -u)" = 0 ]; then
    mkdir -m 700 private
    expect_refused 'Permission denied' setpriv --reuid=65534 --regid=65534 --clear-groups "$nvmepf" serve --socket "$PWD/private/s"
  else
    echo "    NOT RUN: no permission on the socket (needs root to become somebody else)"
  fi
}

test_data_survives_the_server() {
  "$release/data-safety" "$nvmepf" 50 "${NVMEPF_SEED:-$RANDOM}" >out 2>err || die "$(tail -n 5 out err)"
  echo "    $(tail -1 out)"
}

test_file_and_block_device() {
  local device
  truncate --size 128M namespace
  expect_status 0 "$nvmepf" record --backend "$PWD/namespace" -- fio --name=t --rw=randrw --verify=crc32c \
    --bsrange=512-512k --iodepth=16 --size=32M --output-format=json --output=fio.json
  [ "$(json 'sum(j["error"] for j in d["jobs"])' <fio.json)" = 0 ] || die "fio found errors on a file"
  expect_identical
  expect_exact_sums nvmepf.nvpt
  if ! device=$(losetup --find --show namespace 2>/dev/null); then
    echo "    NOT RUN: no loop device can be set up here (needs root)"
    return 0
  fi
  "$nvmepf" record --backend "$device" --block-size 4096 -- fio --name=t --rw=randrw --verify=crc32c --bsrange=4k-512k \
    --iodepth=16 --size=32M --output-format=json --output=fio.json >out 2>err
  losetup --detach "$device"
  [ "$(json 'sum(j["error"] for j in d["jobs"])' <fio.json)" = 0 ] || die "fio found errors on a block device: $(cat err)"
  expect_identical
}

test_fio_trim() {
  expect_status 0 "$nvmepf" record --backend memory --fetch batch -- fio --name=t --rw=randtrim --bs=64k --iodepth=8 --size=16M
  expect_identical
}

test_namespaces_at_run_time() {
  expect_status 3 "$nvmepf" record --backend memory -- sh -ec '
    truncate --size 1M image
    ns() { verb=$1; shift; "$NVMEPF" ns "$verb" --socket "$NVMEPF_SOCKET" "$@"; }
    ns add --backend ./image --block-size 4096
    ! ns add --backend ./image
    ns add --backend null:1GiB --nsid 7
    ns remove 7
    ns list --json >list.json
    "$NVMEPF" link --socket "$NVMEPF_SOCKET" down
    "$NVMEPF" link --socket "$NVMEPF_SOCKET" up'
  grep -q 'in use by another endpoint' err || die "a file was attached twice: $(cat err)"
  [ "$(json '[(n["nsid"], n["block_bytes"]) for n in d["namespaces"]]' <list.json)" = "[(1, 512), (2, 4096)]" ] || die "$(cat list.json)"
  expect_status 2 "$nvmepf" replay
  grep -q '^nothing to compare: the trace holds no command; [0-9]* other events agree' out || die "$(cat out err)"
  expect_refused 'is nvmepf serving there' "$nvmepf" ns list --socket nowhere
}

test_namespaces_under_load() {
  export engine=$release/nvmepf-fio.so
  expect_status 0 "$nvmepf" record --backend memory --size 64MiB -- sh -ec '
    ns() { verb=$1; shift; "$NVMEPF" ns "$verb" --socket "$NVMEPF_SOCKET" "$@"; }
    fio --name=t --ioengine=external:"$engine" --thread=1 --rw=randrw --verify=crc32c --bs=4k --iodepth=8 --size=16M \
      --runtime=5 --time_based --output-format=json --output=fio.json &
    fio=$!
    while kill -0 $fio 2>/dev/null; do
      ns add --backend memory:1MiB --nsid 7
      ns list --json >list.json
      ns remove 7
    done
    wait $fio'
  [ "$(json 'd["jobs"][0]["error"]' <fio.json)" = 0 ] || die "fio found errors"
  [ "$(json '[n["nsid"] for n in d["namespaces"]]' <list.json)" = "[1, 7]" ] || die "$(cat list.json)"
  # Namespaces came and went between two commands of the load, not only before the first and after the last.
  { "$nvmepf" dump --json --event namespace; "$nvmepf" dump --json --event fetch --qid 1; } | python3 -c '
import json, sys
events = sorted((json.loads(line) for line in sys.stdin), key=lambda e: e["time_ns"])
names = "".join("n" if e["event"] == "namespace" else "f" for e in events)
changes = names.strip("n").count("n")
print(f"    {changes} changes between commands")
assert changes >= 2, names[:200]' || die "no change under load"
  expect_identical
}

test_descriptors_run_out() {
  local serving number limit failure=''
  for number in $(seq 40); do
    truncate --size 1M "image$number"
    echo "{\"nsid\": $number, \"device\": {\"path\": \"./image$number\"}}"
  done | paste -sd, >namespaces
  echo "{\"ports\": [{\"portid\": 1, \"addr\": {\"trtype\": \"pci\"}, \"subsystems\": [\"n\"]}],
    \"subsystems\": [{\"nqn\": \"n\", \"namespaces\": [$(cat namespaces)]}]}" >many.json
  expect_status 0 sh -c 'ulimit -Sn 60; exec "$0" "$@"' "$nvmepf" record --config many.json --rw randread --number 10
  # Whichever of a namespace's two is the first that there is none for.
  for limit in 60 61; do
    expect_refused 'no file descriptors are left for namespace' \
      sh -c 'ulimit -n '$limit'; exec "$0" "$@"' "$nvmepf" record --config many.json --rw randread --number 10
  done

  # A client that there is no descriptor for is turned away, and costs nothing.
  "$nvmepf" serve --socket s.sock 2>err &
  serving=$!
  until grep -q 'serving on' err; do :; done
  python3 - $serving <<'P' || failure='nobody was turned away'
import os, resource, socket, sys
pid = int(sys.argv[1])
used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
limit = 2 + min(set(range(1024)) - used)
resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
clients = []
for _ in range(16):
    clients.append(socket.socket(socket.AF_UNIX))
    clients[-1].connect("s.sock.control")
# The server's limit for accepted clients is longer than this.
clients[-1].settimeout(5)
assert clients[-1].recv(1) == b""
P
  [ "$("$nvmepf" ns list --socket s.sock | wc -l)" = 1 ] || failure='the next is not served'
  kill $serving
  wait $serving || failure="exit status $?: $(cat err)"
  [ -z "$failure" ] || die "$failure"
}

test_denied_writes_are_told_of() {
  if [ "$(id -u)" != 0 ]; then
    echo "    NOT RUN: a file that may not be written (needs root to become somebody else)"
    return 0
  fi
  chmod 755 "$work"
  mkdir -m 777 open
  truncate --size 1M open/image
  (cd open && expect_status 0 setpriv --reuid=65534 --regid=65534 --clear-groups "$nvmepf" record --backend ./image \
    --rw randread --number 10 && grep -q 'namespace 1 is read-only: this user may not write ./image' err) || die "no word: $(cat open/err)"
}

# Traces of earlier versions can be read, and one line says why one cannot be replayed.
test_traces_of_earlier_versions() {
  local traces=$here/../Traces trace verb name
  for trace in "$traces"/state-*.nvpt; do
    for verb in info report dump; do
      expect_status 0 "$nvmepf" $verb "$trace"
      [[ -s out ]] || die "$verb of $trace prints nothing"
    done
    name=$(basename "$trace" .nvpt)
    expect_refused "layout ${name#state-} and this nvmepf replays layout [0-9]*: replay it with" "$nvmepf" replay "$trace"
  done
  for verb in info report dump replay; do
    expect_refused 'before-format-1.nvpt is not a trace of nvmepf$' "$nvmepf" $verb "$traces/before-format-1.nvpt"
  done
}

# Text from outside reaches a terminal escaped, whichever command prints it.
test_hostile_text() {
  local golden=$here/../../traces/nvmet-pci-epf.nvpt name verb
  # The golden trace, with the metadata of "probes fentry" made of what a terminal obeys, and its header's CRC32C.
  python3 - "$golden" hostile.nvpt <<'P' || exit 1
import struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
place = data.index(b"probes fentry") + len(b"probes fentry")
length = struct.unpack_from("<I", data, place - len(b"probes fentry") - 4)[0]
text = ("\x1b[2J\x1b]0;title\x07\r\n\t\b\x7f\u009b31m\u202e\u2066\u2028\u2029\ufeff\u200b").encode() + b"\xff\x9b\xc0\x80"
data[place:place + length] = text + b"A" * (length - len(text))
end = struct.unpack_from("<I", data, 12)[0] - 4
crc = 0xffffffff
for byte in data[:end]:
    crc ^= byte
    for _ in range(8): crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
struct.pack_into("<I", data, end, crc ^ 0xffffffff)
open(sys.argv[2], "wb").write(data)
P
  "$nvmepf" info hostile.nvpt | grep -qF 'probes fentry \x1b[2J\x1b]0;title\x07\r\n\t\x08\x7f\u{9b}31m\u{202e}' ||
    die "not escaped: $("$nvmepf" info hostile.nvpt | cat -v | head -5)"
  name=$'a\e[2J\u202e\u009b\nb'
  cp hostile.nvpt "$name"
  truncate --size=-5000 "$name"
  for verb in info report dump replay; do
    "$nvmepf" $verb hostile.nvpt >out 2>err || die "$verb: $(cat err)"
    expect_printable "$verb"
    # The file's name and what is damaged of it, too.
    "$nvmepf" $verb "$name" >out 2>err
    expect_printable "$verb of a file with such a name"
    "$nvmepf" $verb "no$name" >out 2>err
    expect_printable "$verb of no file"
    grep -qF 'a\x1b[2J\u{202e}\u{9b}\nb' err || die "$verb does not name the file: $(cat -v err)"
  done
  "$nvmepf" merge "$name" "no$name" >out 2>err
  expect_printable merge
  "$nvmepf" repair "$name" -o "r$name" >out 2>err
  expect_printable repair
  "$nvmepf" doctor >out 2>err
  expect_printable doctor
  printf '{"subsystems": [{"nqn": "\\u001b[2J\\u202e", "\\u009b\\u007f": 1, "namespaces": 7}]}' >c.json
  "$nvmepf" serve --socket s --config c.json >out 2>err && die "such a configuration is served"
  expect_printable configuration
  expect_status 3 "$nvmepf" record --backend memory -- sh -ec '
    truncate --size 1M "$1"
    "$NVMEPF" ns add --socket "$NVMEPF_SOCKET" --backend "./$1"
    "$NVMEPF" ns list --socket "$NVMEPF_SOCKET" >list
    "$NVMEPF" ns list --json --socket "$NVMEPF_SOCKET" >list.json' - "$name"
  cat list list.json >out
  expect_printable "ns list"
  [ "$(json 'd["namespaces"][1]["backend"].endswith("a\x1b[2J\u202e\x9b\nb")' <list.json)" = True ] || die "$(cat list.json)"
}
expect_printable() { # WHAT: out and err hold nothing that a terminal obeys or hides
  python3 - "$1" <<'P' || exit 1
import sys, unicodedata
for name in "out", "err":
    text = open(name, "rb").read().decode()
    bad = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c != "\n"}
    if bad: sys.exit(f"    {sys.argv[1]}: {bad!r} in its {name}")
P
}

test_configuration() {
  sed -n '/^```json/,/^```/p' "$here/../../docs/configuration.md" | sed '1d;$d' >example.json
  expect_status 0 "$nvmepf" record --config example.json --rw randread --number 100
  expect_identical
  sed 's/"path": "null/"paht": "null/; s/"batch"/"bulk"/' example.json >wrong.json
  expect_status 2 "$nvmepf" record --config wrong.json --rw randread
  [ "$(wc -l <err)" = 3 ] || die "not a line for each problem: $(cat err)"
  grep -q 'namespaces\[0\].device.path: is missing' err || die "$(cat err)"
  grep -q 'namespaces\[0\].device.paht: unknown key, ignored; did you mean path?' err || die "$(cat err)"
  expect_refused 'No such file' "$nvmepf" serve --socket s --config nowhere.json
  expect_refused 'each job needs a queue, and the endpoint has 4' "$nvmepf" record --config example.json --rw randread --numjobs 5
  sed 's/"qid_max": "4"/"qid_max": "40"/; s/"msix_interrupts": 5/"msi_interrupts": 8/' example.json >wide.json
  expect_status 0 "$nvmepf" record --config wide.json --rw randread --number 10 --numjobs 20
  sed 's/"qid_max": "4"/"qid_max": "40"/; s/"msix_interrupts": 5/"revid": 8/' example.json >idle.json
  expect_status 0 "$nvmepf" record --config idle.json --rw randread --number 10
  [ "$(grep -c 'no effect here: revid' err)" = 1 ] || die "not one line of what has no effect: $(cat err)"
  expect_refused 'No such file' "$nvmepf" serve --socket s --backend ./nowhere
  expect_refused 'a path' "$nvmepf" serve --socket s --backend nothing
}

# What is published for other transports is served by a choice beside the file.
test_configuration_of_others() {
  truncate --size 1M disk
  cat >tcp.json <<J
{"hosts": [{"nqn": "host-a", "dhchap": {"key": "DHHC-1:00:secret:", "ctrl_key": "", "hash": "hmac(sha256)", "dhgroup": "null"}}],
 "ports": [{"portid": 3, "addr": {"trtype": "tcp", "trsvcid": 4420}, "subsystems": ["sub-a", "sub-b"]}],
 "subsystems": [
   {"nqn": "sub-a", "allow_any_host": "1", "namespaces": [{"nsid": 1, "enable": 1, "device": {"path": "$PWD/disk"}}]},
   {"nqn": "sub-b", "allowed_hosts": ["host-a"], "namespaces": [{"nsid": 40, "enable": 1, "device": {"path": "null:1GiB"}}]}]}
J
  expect_refused '--subsystem sub-a or --subsystem sub-b' "$nvmepf" record --config tcp.json --rw read
  expect_refused 'port 3 has 2: choose' "$nvmepf" record --config tcp.json --port 3 --rw read
  expect_refused '--subsystem needs --config' "$nvmepf" record --subsystem sub-a --rw read
  expect_refused '--port needs --config' "$nvmepf" record --port 3 --rw read
  expect_status 0 "$nvmepf" record --config tcp.json --subsystem sub-a --rw write --number 10
  grep -q 'subsystems\[0\].allow_any_host: unknown key, ignored' err || die "$(cat err)"
  expect_identical
  ! grep -qr secret . --include=out --include=err --include='*.nvpt' || die "a host's key was shown"
  expect_status 2 "$nvmepf" record --config tcp.json --port 3 --subsystem sub-b --namespaces-max 39 --rw read
  grep -q 'namespace 40 is beyond --namespaces-max 39' err || die "$(cat err)"
}

# Two endpoints are two for a host, and each is the same when it is served again.
test_identities() {
  identity() { # TRACE OPTION...: into $identity
    local trace=$1 pid
    shift
    # What an earlier server left is not this one's.
    rm -f "$trace"
    : >serve.err
    "$nvmepf" serve --record "$trace" "$@" 2>>serve.err &
    pid=$!
    until grep -q 'serving on' serve.err; do kill -0 $pid || die "$(cat serve.err)"; done
    kill -TERM $pid
    wait $pid
    identity=$("$nvmepf" info "$trace" | grep -E '^(subsystem|serial) ')
    [ "$(echo "$identity" | wc -l)" = 2 ] || die "no identity: $("$nvmepf" info "$trace")"
  }
  local identity first
  identity a.nvpt --socket a.sock && first=$identity
  identity b.nvpt --socket b.sock
  [ "$(echo "$first" "$identity" | tr ' ' '\n' | sort | uniq -d | grep -c '[0-9]')" = 0 ] || die "alike: $first $identity"
  identity a.nvpt --socket "$PWD/a.sock"
  [ "$identity" = "$first" ] || die "another identity: $first, then $identity"
  identity a.nvpt --socket a.sock --id other
  [ "$identity" != "$first" ] || die "--id changes nothing"
  identity a.nvpt --socket a.sock --nqn nqn.2025-01.org.example:a --serial S1
  echo "$identity" | grep -q 'nqn.2025-01.org.example:a' && echo "$identity" | grep -q 'S1$' || die "$identity"
}

# A host may be told of as many namespaces as were asked for, and no more.
test_namespaces_max() {
  local pid
  : >serve.err
  "$nvmepf" serve --socket s 2>>serve.err &
  pid=$!
  until grep -q 'serving on' serve.err; do kill -0 $pid || die "$(cat serve.err)"; done
  expect_status 0 "$nvmepf" ns add --socket s --nsid 32 --backend null:1MiB
  expect_refused 'serve with --namespaces-max 33' "$nvmepf" ns add --socket s --nsid 33 --backend null:1MiB
  kill -TERM $pid
  wait $pid
  expect_refused 'between 1 and 1024' "$nvmepf" serve --socket s --namespaces-max 1025
}

# An endpoint that sleeps finds commands late, and the report says so.
test_naps_show_as_detect() {
  expect_status 0 "$nvmepf" record --idle 0 --nap 20 -- fio --name=t --rw=randread --bs=4k --iodepth=1 --number_ios=30 \
    --thinktime=30ms
  expect_identical
  expect_exact_sums nvmepf.nvpt
  [ "$(json 'd["stages"][0]["stage"], d["stages"][0]["mean_ns"] > 0.5 * d["latency"]["mean_ns"]' <report.json)" = "detect True" ] ||
    die "naps are not seen as detect: $("$nvmepf" report)"
  "$nvmepf" dump --event rest nvmepf.nvpt >rests
  grep -q ' engine/0 rest flags=0x1 ' rests || die "the engine's naps are not in the trace: $(head -3 rests)"
}

# A thread that cannot be started ends the recording with a reason, and the trace, where there is one, is closed.
test_no_thread_left() {
  [ "$(id -u)" = 0 ] || { echo "    NOT RUN: needs root, to become a user who may have few threads"; return; }
  local limit status
  chmod 755 "$work"
  mkdir -m 777 open
  for limit in 1 2 3 4 5 6 7; do
    status=0
    (cd open && setpriv --reuid=65533 --regid=65533 --clear-groups prlimit --nproc=$limit "$nvmepf" record -o $limit.nvpt \
      --size 1MiB --no-prefault --rw randread --bs 4k --iodepth 1 --runtime 1) >out 2>err || status=$?
    [ $status = 0 ] || { [ $status -le 2 ] && grep -q 'raise ulimit -u' err; } || die "$limit threads: status $status, $(cat err)"
    [ ! -e open/$limit.nvpt ] || [ "$("$nvmepf" info --json open/$limit.nvpt | json 'd["complete"]')" = True ] ||
      die "$limit threads: the trace is not closed"
    [ -z "$(find /dev/shm -maxdepth 1 -user 65533)" ] || die "$limit threads: rings are left"
  done
}

# Statuses, refusals and columns of a comparison; what was measured may be anything.
test_diff() {
  local run
  for run in 1 2 3; do
    expect_status 0 "$nvmepf" record -o a$run.nvpt --backend null:1GiB --rw randread --bs 4k --number 2000
    expect_status 0 "$nvmepf" record -o b$run.nvpt --backend null:1GiB,constant:50ms --iodepth 32 --rw randread --bs 4k --number 1200
  done
  expect_status 0 "$nvmepf" diff a1.nvpt a2.nvpt
  grep -q '^command, A: .* -o a1.nvpt' out || die "not what was compared: $(cat out)"
  python3 -c 'assert all(len(line) <= 72 for line in open("out", encoding="utf-8").read().splitlines())' || die "more than 72 columns: $(cat out)"
  # Every command executes for 50 ms in one of them.
  expect_status 1 "$nvmepf" diff a1.nvpt b1.nvpt --fail-if 'execute > +100%'
  grep -q "'execute > +100%': yes" out || die "$(cat out)"
  expect_status 0 "$nvmepf" diff b1.nvpt a1.nvpt --fail-if 'execute > +100%' --fail-if 'p50>0%'
  # Two of 2,000 commands lie beyond.
  expect_status 3 "$nvmepf" diff a1.nvpt a2.nvpt --fail-if 'p99.9 > 5%'
  expect_status 1 "$nvmepf" diff --json --a a1.nvpt a2.nvpt a3.nvpt --b b1.nvpt b2.nvpt b3.nvpt --fail-if 'execute > 100%' --fail-if 'p99.9 > 5%'
  [ "$(json 'd["format"], d["spread"], len(d["a"]), d["limits"][0]["verdict"], d["limits"][1]["verdict"]' <out)" = \
    "nvmepf-diff/1 runs 3 exceeded unknown" ] || die "$(cat out)"
  "$here/validate.py" "$here/../../docs/schema/diff.json" <out || die "the object is not as documented: $(head -c 400 out)"
  # More than two: each is compared with the first.
  expect_status 1 "$nvmepf" diff a1.nvpt a2.nvpt b1.nvpt --fail-if 'execute > +100%'
  python3 -c 'assert all(len(line) <= 72 for line in open("out", encoding="utf-8").read().splitlines())' || die "more than 72 columns: $(cat out)"
  grep -q '^B compared with A$' out && grep -q '^C compared with A$' out || die "$(cat out)"
  [ "$(grep -c "'execute > +100%': " out)" = 2 ] || die "$(cat out)"
  expect_status 1 "$nvmepf" diff --json a1.nvpt a2.nvpt b1.nvpt --fail-if 'execute > +100%'
  [ "$(json 'd["b"][0]["file"], len(d["more"]), d["more"][0]["b"][0]["file"], d["more"][0]["limits"][0]["verdict"]' <out)" = \
    "a2.nvpt 1 b1.nvpt exceeded" ] || die "$(cat out)"
  "$here/validate.py" "$here/../../docs/schema/diff.json" <out || die "the object is not as documented: $(head -c 400 out)"
  # A stage in which commands waited is followed by its service and its waiting.
  [ "$(json 'all(s["statistic"] + ".waiting" in {o["statistic"] for o in d["statistics"]} for s in [{"statistic": o["statistic"][:-8]} for o in d["statistics"] if o["statistic"].endswith(".service")])' <out)" = True ] ||
    die "$(cat out)"
  expect_refused 'at most 26' "$nvmepf" diff $(printf 'a1.nvpt %.0s' {1..27})
  expect_refused 'two recordings' "$nvmepf" diff a1.nvpt
  expect_refused 'belong together' "$nvmepf" diff --a a1.nvpt
  expect_refused 'at least two of each' "$nvmepf" diff --a a1.nvpt --b b1.nvpt b2.nvpt
  expect_refused "fail-if" "$nvmepf" diff a1.nvpt b1.nvpt --fail-if 'p98 > 5%'
  expect_refused 'no such file' "$nvmepf" diff a1.nvpt missing.nvpt
  echo text >text.nvpt
  expect_refused 'not a trace' "$nvmepf" diff a1.nvpt text.nvpt
  expect_refused 'no complete I/O command' "$nvmepf" diff a1.nvpt "$here/../../traces/namespaces.nvpt"
  head -c $(($(stat -c %s a1.nvpt) - 100)) a1.nvpt >cut.nvpt
  expect_status 2 "$nvmepf" diff a1.nvpt cut.nvpt
  grep -q 'cut.nvpt' err && grep -q '^execute' out || die "$(cat out err)"
}

# Where a recording was made is in it, and which build made it; a build knows its commit with and without git.
test_metadata() {
  local commit tool
  expect_status 0 "$nvmepf" record --size 1GiB -- fio --name=t --rw=read --number_ios=10
  expect_status 0 "$nvmepf" info
  grep -qx "host *$(uname -n)" out && grep -qx "kernel *$(uname -r)" out || die "$(cat out)"
  grep -qx "command *fio --name=t --rw=read --number_ios=10" out && grep -qx "options *$nvmepf record --size 1GiB" out ||
    die "$(cat out)"
  grep -q "^date *20[0-9-]*T[0-9:]*Z$" out || die "$(cat out)"
  expect_status 0 "$nvmepf" info --json
  [ "$(json 'd["metadata"]["host"], d["metadata"]["command"][:3]' <out)" = "$(uname -n) fio" ] || die "$(cat out)"
  expect_status 0 "$nvmepf" record --rw read --number 10
  expect_status 0 "$nvmepf" info
  grep -q "^command .*--rw read --number 10$" out && ! grep -q '^options' out || die "$(cat out)"
  # A clone whose branch has a file of its own, or only a line in packed-refs, or none; and an archive.
  commit=0123456789abcdef0123456789abcdef01234567
  mkdir -p tools clone/.git/refs/heads archive
  for tool in cat cut sed tr; do ln -s "$(command -v $tool)" tools/; done
  embed() { PATH=$PWD/tools /bin/sh "$here/../../scripts/commit.sh" $1 Commit.swift; grep -o '"[0-9a-f]*"\|= nil' Commit.swift; }
  echo 'ref: refs/heads/main' >clone/.git/HEAD
  echo $commit >clone/.git/refs/heads/main
  [ "$(embed clone)" = '"0123456789ab"' ] || die "$(cat Commit.swift)"
  mv clone/.git/refs/heads/main file
  printf '# pack-refs\n%s refs/heads/main\n' $commit >clone/.git/packed-refs
  [ "$(embed clone)" = '"0123456789ab"' ] || die "$(cat Commit.swift)"
  rm clone/.git/packed-refs
  [ "$(embed clone)" = '= nil' ] || die "$(cat Commit.swift)"
  echo $commit >clone/.git/HEAD
  [ "$(embed clone)" = '"0123456789ab"' ] || die "$(cat Commit.swift)"
  [ "$(embed archive)" = '= nil' ] || die "$(cat Commit.swift)"
}

test_hot_functions() { "$here/hot-functions.sh" "$nvmepf" || exit 1; }

# A test that kills a recording leaves rings of a trace that no other test may be told of.
remove_rings() { # of traces in FOLDER
  local link
  for link in /dev/shm/nvmepf-*/trace; do
    case $(readlink "$link") in "$1"/*) rm -rf "${link%/trace}" ;; esac
  done
}

run() {
  local begin=$SECONDS
  mkdir -p "$work/$1"
  if (cd "$work/$1" && "test_$1"); then
    passed=$((passed + 1))
    echo "passed: $1 ($((SECONDS - begin)) s)"
  else
    failed+=("$1")
    echo "FAILED: $1"
  fi
  remove_rings "$work/$1"
}

[ $# -gt 0 ] || mapfile -t all < <(sed -n 's/^test_\([a-z0-9_]*\)() .*/\1/p' "${BASH_SOURCE[0]}")
for name in "${all[@]:-$@}"; do run "$name"; done
echo "$passed passed, ${#failed[@]} failed${failed[*]:+: ${failed[*]}}"
[ ${#failed[@]} = 0 ]
