#!/usr/bin/env python3
"""silent-fuse.py FOLDER reads|everything

Mounts a FUSE file system at FOLDER that does not answer reads, or anything. Every other name in it is a file of 1 MiB. Prints a
line when it is mounted, and one at the first read; runs until it is killed. Needs root.
"""
import ctypes, os, signal, struct, sys

folder, silence = os.fsencode(sys.argv[1]), sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
device = os.open("/dev/fuse", os.O_RDWR)
options = b"fd=%d,rootmode=40000,user_id=0,group_id=0" % device
if libc.mount(b"silent", folder, b"fuse", 0, options):
    sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
print("mounted", flush=True)
if silence == "everything":
    signal.pause()


def attributes(node):
    mode = 0o40700 if node == 1 else 0o100600
    return struct.pack("<6Q10I", node, 1 << 20, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


# Numbers and layouts: FUSE 7.31.
INIT, LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, BATCH_FORGET = 26, 1, 2, 3, 14, 15, 17, 18, 25, 42
answers = {
    INIT: lambda node: struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, *[0] * 8),
    LOOKUP: lambda node: struct.pack("<4Q2I", 2, 0, 3600, 3600, 0, 0) + attributes(2),
    GETATTR: lambda node: struct.pack("<Q2I", 3600, 0, 0) + attributes(node),
    OPEN: lambda node: bytes(16),
    STATFS: lambda node: struct.pack("<5Q10I", 1024, 0, 0, 1, 0, 4096, 255, 4096, *[0] * 7),
    RELEASE: lambda node: b"",
    FLUSH: lambda node: b"",
}
while True:
    _, operation, unique, node = struct.unpack_from("<IIQQ", os.read(device, 1 << 17))
    if operation == READ:
        print("asked", flush=True)
    elif operation not in (FORGET, BATCH_FORGET):
        answer, error = (answers[operation](node), 0) if operation in answers else (b"", -38)
        os.write(device, struct.pack("<IiQ", 16 + len(answer), error, unique) + answer)
