#!/usr/bin/env python3
"""full-ring.py NVMEPF

Kills a recorder while its host, a fio, waits for room in its ring: the thread that empties the rings is stopped until the
host's ring is full. The fio must end by itself, and a repair lose nothing.
"""
import ctypes, glob, mmap, os, select, signal, struct, subprocess, sys

nvmepf = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def descendants(pid):
    children = {int(child) for tasks in glob.glob(f"/proc/{pid}/task/*/children") for child in read(tasks).split()}
    return children.union(*map(descendants, children)) if children else children


def await_(what, find):
    while True:
        found = find()
        if found:
            return found
        if recorder.poll() is not None:
            sys.exit(f"    {what}: the recorder has ended: {read('out').decode()}")


def stop(tid):
    for request in PTRACE_SEIZE, PTRACE_INTERRUPT:
        if libc.ptrace(request, tid, None, None):
            sys.exit(f"    cannot stop the writer's thread: {os.strerror(ctypes.get_errno())}")
    os.waitpid(tid, WALL)


def ring():
    for link in glob.glob("/dev/shm/nvmepf-*/trace"):
        try:
            if os.readlink(link) == os.path.abspath("t.nvpt"):
                return next(iter(glob.glob(os.path.dirname(link) + "/host-*.ring")), None)
        except OSError:
            pass


def is_full(header):
    capacity, head, tail = (struct.unpack_from("<Q", header, place)[0] for place in (16, 64, 128))
    return head - tail >= capacity - 2


with open("out", "wb") as out:
    fio = "fio --name=t --rw=randread --bs=4k --iodepth=1 --runtime=600 --time_based".split()
    recorder = subprocess.Popen([nvmepf, "record", "-o", "t.nvpt", "--"] + fio, stdout=out, stderr=out)
path = await_("its ring", ring)
await_("the first chunk", lambda: os.path.exists("t.nvpt"))
writer = next(int(tid) for tid in os.listdir(f"/proc/{recorder.pid}/task")
              if read(f"/proc/{recorder.pid}/task/{tid}/comm") == b"nvmepf-writer\n")
stop(writer)
with open(path, "rb") as file:
    header = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
await_("a full ring", lambda: is_full(header))
fios = {pid: os.pidfd_open(pid) for pid in descendants(recorder.pid) if read(f"/proc/{pid}/comm") == b"fio\n"}
if not fios:
    sys.exit("    there is no fio")
recorder.send_signal(signal.SIGKILL)
# A process is not reported before its thread that somebody traces.
os.waitpid(writer, WALL)
recorder.wait()
for pid, descriptor in fios.items():
    if not select.select([descriptor], [], [], 120)[0]:
        for left in fios:
            os.kill(left, signal.SIGKILL)
        sys.exit("    fio waits for room in a ring that nobody empties")
if b"the device has disconnected" not in read("out"):
    sys.exit(f"    fio does not say why: {read('out').decode()}")
