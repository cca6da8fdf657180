#!/bin/bash
# fio-ways.sh NVMEPF
#
# Starts fio under `nvmepf record` in every way that a user might, with jobs that write a victim file. Each way runs on the
# endpoint or is refused with a message, and the victim stays unchanged. Prints a line per failure, and a count.
set -uo pipefail
nvmepf=$(realpath "${1:?usage: fio-ways.sh NVMEPF}")
work=$(mktemp -d)
loop=
trap '[ -z "$loop" ] || losetup -d "$loop"; rm -rf "$work"' EXIT
cd "$work" || exit
real=$(command -v fio)
victim=$work/victim
ran=0 refused=0 failed=0

head -c 262144 /dev/urandom >victim
before=$(sha256sum <victim)
job="--name=j --rw=write --bs=4k --size=64k --filename=$victim"

# The same job in files of every kind.
lines="rw=write\nbs=4k\nsize=64k\nfilename=$victim\n"
printf "[j]\n$lines" >plain.fio
printf "[j]\nioengine=libaio\n$lines" >engine.fio
printf "[global]\nioengine=libaio\n[j]\n$lines" >global.fio
printf "[global]\nioengine=libaio\n[j]\n$lines" | sed 's/$/\r/' >crlf.fio
printf "ioengine=libaio\n" >engine.inc
printf "[global]\ninclude engine.inc\n[j]\n$lines" >include.fio
mkdir -p sub read 64k
printf "ioengine=io_uring\nthread=0\n" >sub/engine.inc
printf "[j]\ninclude engine.inc\n$lines" >sub/include.fio
printf "; d\xe9bit\n[j]\nioengine=libaio\n$lines" >latin1.fio
printf "[\xe9t\xe9]\n  ioengine = psync ; why not\n$lines" >latin1-name.fio
printf "[j]\nioengine=libaio\n%b" "$lines" >"name with space.fio"
printf "[j]\nioengine=io_uring\nhipri\nfixedbufs\nregisterfiles\nsqthread_poll\nnonvectored=1\n$lines" >io_uring.fio
printf "[j]\nioengine=libaio\nuserspace_reap\ncmdprio_percentage=10\n$lines" >libaio.fio
printf "[j]\nmem=mmaphuge\n$lines" >mem.fio
printf "[j]\niomem=shmhuge\nhugepage-size=2m\n$lines" >iomem.fio
printf "[j]\nioengine=sync\nio_submit_mode=offload\n$lines" >offload.fio
printf "[cpu]\nioengine=cpuio\ncpuload=5\nruntime=1\ntime_based\nexit_on_io_done=1\n[j]\n$lines" >cpuio.fio
printf "[j]\nioengine=mmap\nthread=0\nunlink=1\noverwrite=1\npre_read=1\ncreate_serialize=1\n$lines" >processes.fio
printf "[j]\ncreate_serialize=0\n$lines" >parallel.fio
printf "[j]\nioengine=filedelete\nfilesize=64k\nnrfiles=1\nfilename=$victim\n" >delete.fio
printf "[j]\nioengine=falloc\n$lines" >falloc.fio
printf "[j]\nioengine=external:/usr/lib/none.so\n$lines" >external.fio
printf "[j]\nioengine=\${ENGINE}\n$lines" >variable.fio
printf '#!%s\n[j]\n%b' "$real" "$lines" >shebang.fio
printf '#!/usr/bin/env fio\n[j]\n%b' "$lines" >shebang-env.fio
printf '#!/bin/sh\nexec fio "$@"\n' >script
printf '#!/bin/sh\nexec %s "$@"\n' "$real" >absolute-script
printf '#!/bin/sh\nPATH=/usr/bin:/bin\nfio "$@"\n' >path-script
printf '#!/bin/sh\n"$@"\n' >first-word
cp script docker
cp script srun
cp first-word ssh
cat >two-preloads.py <<'END'
# An environment with two entries LD_PRELOAD, of which the C library takes the last.
import ctypes, os
words = [os.environ["real"].encode()] + os.environ["job"].encode().split()
engine = os.environ["PATH"].split(":")[0] + "/fio-engine.so"
entries = [b"LD_PRELOAD=" + engine.encode(), b"LD_PRELOAD="]
strings = lambda list: (ctypes.c_char_p * (len(list) + 1))(*list, None)
ctypes.CDLL(None).execve(words[0], strings(words), strings(entries))
raise SystemExit(126)
END
chmod +x docker srun ssh first-word shebang.fio shebang-env.fio script absolute-script path-script
cp "$real" renamed
mkdir -p linked && ln -s "$real" linked/benchmark
echo "$job" >plain.args
export ENGINE=libaio job real victim

fail() {
  echo "    FAILED: $1: $2"
  sed 's/^/      /' out | tail -n 8
  failed=$((failed + 1))
}

# way runs|refused NAME COMMAND...
way() {
  local wanted=$1 name=$2 status commands
  shift 2
  rm -f t.nvpt*
  timeout 180 "$nvmepf" record ${allow:-} --backend memory --size 16MiB -o t.nvpt -- "$@" >out 2>&1 </dev/null
  status=$?
  commands=$("$nvmepf" info --json t.nvpt 2>/dev/null | sed -n 's/.*"commands" *: *\([0-9]*\).*/\1/p' | head -n 1)
  if [ "$(sha256sum <victim)" != "$before" ]; then
    fail "$name" "the victim was written"
    head -c 262144 /dev/urandom >victim
    before=$(sha256sum <victim)
  elif [ "$wanted" = runs ]; then
    if [ "$status" = 0 ] && [ "${commands:-0}" -ge 16 ]; then ran=$((ran + 1)); else
      fail "$name" "did not run on the endpoint: status $status, ${commands:-no} commands"
    fi
  elif [ "${commands:-0}" -gt 0 ] || ! grep -q '^nvmepf: .*\(not run\|stopped before\|run this job without\|record as root\|runs its jobs on\)' out; then
    fail "$name" "not refused with a line: status $status"
  elif [ "$status" = 0 ]; then
    fail "$name" "refused, but the exit status is 0"
  else
    refused=$((refused + 1))
  fi
}

way runs "options" fio $job
way runs "options with an engine" fio $job --ioengine=libaio
way runs "an engine in two words" fio $job --ioengine libaio
way runs "an abbreviated engine" fio $job --ioeng=libaio
way runs "one dash" fio $job -ioengine=libaio
way runs "an engine in front" fio --ioengine=psync $job
way runs "everything in two words" fio --name j --rw write --bs 64k --size 64k --size 64k --filename "$victim" --bs 4k --output res.txt
way runs "a file that is named as a value" fio --name j --rw write --bs 4k --size 64k --filename "$victim" --directory /
way runs "thread 0" fio $job --thread=0
way runs "an absolute path" "$real" $job --ioengine=libaio
way runs "a renamed copy" ./renamed $job
way runs "a link with another name" linked/benchmark $job
way runs "a job file" fio plain.fio
way runs "a job file with an engine" fio engine.fio
way runs "an engine in [global]" fio global.fio
way runs "CRLF" fio crlf.fio
way runs "an include" fio include.fio
way runs "an include of an included folder" fio sub/include.fio
way runs "a comment in Latin-1" fio latin1.fio
way runs "a section in Latin-1" fio latin1-name.fio
way runs "a job file with a space in its name" fio "name with space.fio"
way runs "two job files" fio plain.fio engine.fio
way runs "options and a job file" fio --ioengine=libaio engine.fio --output=res.txt
way runs "io_uring's options" fio io_uring.fio
way runs "libaio's options" fio libaio.fio
way runs "mem" fio mem.fio
way runs "iomem" fio iomem.fio
way runs "offload" fio offload.fio
way runs "cpuio beside" fio cpuio.fio
way runs "processes, unlink and pre_read" fio processes.fio
way runs "jobs set up side by side" fio parallel.fio
way runs "another external engine" fio external.fio
way runs "a variable as engine" fio variable.fio
way runs "one section" fio --section=j engine.fio
way refused "files deleted" fio delete.fio
way refused "files allocated" fio falloc.fio
way refused "files allocated, set up side by side" fio falloc.fio --create_serialize=0
way runs "standard input" sh -c 'fio - <engine.fio'
way runs "standard input from a pipe" sh -c 'cat crlf.fio | fio -'
way runs "a process substitution" bash -c 'fio <(cat engine.fio)'
way runs "a here document" sh -c 'fio /dev/stdin <engine.fio'
way runs "sh -c" sh -c 'fio $job --ioengine=libaio'
way refused "sh -c with an absolute path" sh -c '$real $job'
way refused "sh -c with a renamed copy" sh -c './renamed $job'
way runs "a script" ./script $job
way refused "a script with an absolute path" ./absolute-script $job
way refused "a script with a PATH of its own" ./path-script $job
way refused "a job file that names fio as its interpreter" ./shebang.fio
way runs "a job file whose interpreter is env fio" ./shebang-env.fio
way runs "env" env A=1 fio $job
way runs "env -i" env -i fio $job
way runs "env -i with an absolute path" env -i "$real" $job
way runs "env -u PATH" env -u PATH -u NVMEPF_SOCKET fio $job
way refused "env -i in a shell" sh -c 'env -i $real $job'
way runs "nice and nohup" nice nohup fio $job
way runs "timeout" timeout 30 fio $job
way runs "setsid" setsid -w fio $job
way runs "taskset" taskset -c 0 fio $job
way runs "setarch" setarch "$(uname -m)" fio $job
way runs "setarch with an absolute path" setarch "$(uname -m)" -R "$real" $job
way runs "stdbuf, which preloads too" stdbuf -oL fio $job
way runs "ionice" ionice -c 3 fio $job
way runs "chrt" chrt -o 0 fio $job
way runs "xargs" xargs -a plain.args fio
way runs "xargs in a shell" sh -c 'echo $job | xargs fio'
way runs "script" script -qec "fio $job" /dev/null
way refused "the loader" sh -c '$(ls /lib64/ld-linux* /lib/ld-linux* 2>/dev/null | head -n 1) $real $job'
way runs "python" python3 -c 'import os, subprocess; subprocess.check_call(["fio"] + os.environ["job"].split())'
way refused "python with a descriptor" python3 -c 'import os
os.execve(os.open(os.environ["real"], os.O_RDONLY), ["fio"] + os.environ["job"].split(), os.environ)'
way runs "find -exec" find plain.fio -exec fio {} ';'
way runs "make" make -s -f <(printf 'all:\n\tfio $$job\n')
way runs "in the background" sh -c 'fio $job & wait'
way runs "a profile" fio --profile=tiobench --size=1m --numruns=1 --dir="$work"
way refused "a client" fio --client=localhost engine.fio
way refused "a container" sh -c './docker run debian fio'
way refused "a scheduler" ./srun fio $job
way refused "another machine" sh -c './ssh host fio $job'
way runs "a command after --" nice -n 1 -- fio $job
way refused "an environment with two preloads" python3 two-preloads.py
way refused "the loader, which searches" sh -c '$(ls /lib64/ld-linux* /lib/ld-linux* 2>/dev/null | head -n 1) --library-path "${real%/*}" fio $job'
if [ "$(id -u)" = 0 ]; then
  way runs "unshare" unshare -m fio $job
  way runs "unshare with an absolute path" unshare -mp --fork "$real" $job
  way refused "unshare in a shell" sh -c 'unshare -mp --fork $real $job'
  way refused "another root" sh -c 'mkdir -p root && unshare -m sh -c "mount --rbind / root && chroot root $real $job"'
  way runs "setpriv" setpriv --no-new-privs fio $job
  way refused "fio mounted over another program" unshare -m sh -c 'mount --bind $real /bin/true && /bin/true $job'
  way runs "su -c" su -c "fio $job"
  way runs "runuser" runuser -u root -- fio $job
  way refused "another user" runuser -u nobody -- fio $job
  way refused "another user, in a shell" sh -c 'exec setpriv --reuid 65534 fio $job'
  if command -v sudo >/dev/null; then
    way runs "sudo" sudo fio $job
    way runs "sudo with an environment and --" sudo -u root A=1 -- fio $job
    way refused "sudo in a shell, which has a PATH of its own" sh -c 'sudo fio $job'
    way refused "sudo as another user" sudo -u nobody fio $job
  else
    echo "    NOT RUN: 4 ways with sudo, which is not installed"
  fi

  # A device that is the victim, or one that nothing drives, where the machine has no loop devices.
  if loop=$(losetup --find --show victim 2>/dev/null); then device=$loop; else
    device=$work/device
    mknod "$device" b 7 4095
  fi
  export onto="--name=j --rw=randwrite --bs=4k --size=64k --filename=$device"
  ln -s "$device" by-id
  mknod character c 21 250
  printf "filename=$device\n" >device.inc
  printf "[j]\ninclude device.inc\nrw=write\nbs=4k\nsize=64k\n" >device.fio
  printf "[first]\n$lines[second]\nfilename=$device\nrw=rw\nbs=4k\nsize=64k\n" >second.fio
  printf "fio version 2 iolog\n/dev/none add\n/dev/none open\n/dev/none write 0 4096\n/dev/none close\n" >written.log
  way refused "a device" fio $onto
  way refused "a device that is trimmed" fio $onto --rw=trim
  way refused "a link to a device" fio $onto --filename=by-id
  way refused "a character device" fio $onto --filename=character
  way refused "a device among files" fio $onto "--filename=$victim:$device"
  way refused "a device in sh -c" sh -c 'fio $onto'
  way refused "a device in an include" fio device.fio
  way refused "a device on standard input" sh -c 'fio - <device.fio'
  way refused "a device of the second job" fio second.fio
  # The jobs' threads race.
  for time in 1 2 3 4 5; do
    way refused "a device of the second job, set up side by side, $time" fio second.fio --create_serialize=0
  done
  way refused "a device as output" fio $job --output="$device"
  way refused "a device as output in two words" fio --output "$device" plain.fio
  way refused "a device as a log of I/O" fio $job --write_iolog="$device"
  way refused "a device to which a log is redirected" fio --name=j --read_iolog=written.log --replay_redirect="$device"
  printf "fio version 2 iolog\n$device add\n$device open\n$device read 0 4096\n$device write 4096 4096\n$device close\n" >names.log
  printf "fio version 3 iolog\n1 $victim add\n1 $device add\n2 $device open\n3 $device trim 0 4096\n" >names3.log
  way refused "a device that a log names" fio --name=j --read_iolog=names.log
  way refused "a device that the second log names" fio --name=j --read_iolog=written.log:names3.log
  way runs "a device that is read" fio $onto --rw=read
  way runs "/dev/null" fio $job --filename=/dev/null --output=/dev/null
  allow=--allow-real-devices way runs "a device, allowed" fio $onto
else
  echo "    NOT RUN: 33 ways that need root"
fi
echo "    $((ran + refused + failed)) ways of starting fio: $ran on the endpoint, $refused refused, $failed failed"
[ $failed = 0 ]
