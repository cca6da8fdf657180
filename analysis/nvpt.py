#!/usr/bin/env python3
"""A second reader of nvmepf traces, written from docs/trace-format.md alone.

    analysis/nvpt.py TRACE        prints what `nvmepf dump --json TRACE` prints, a stream at a time

As a module: `Trace(path).events()` yields (stream, source, time, kind, fields). It checks no checksums: `nvmepf info`
does. zstd is the `zstd` command's or the `zstandard` package's.
"""

import json
import struct
import subprocess
import sys

SOURCES = {1: "engine", 2: "host", 3: "kernel"}
HEADER = 88


def unzstd(data):
    try:
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except ImportError:
        return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout


class Bytes:
    """Takes values from bytes, one behind the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        return self.data[self.at - count : self.at]

    def get(self, layout):
        values = struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))
        return values[0] if len(values) == 1 else values

    def text(self):
        return self.take(self.get("H")).decode()

    def run(self, mode):
        data = self.take(self.get("I"))
        return unzstd(data) if mode == 1 else data

    def column(self, count, earlier):
        encoding = self.get("B")
        if encoding == 0:
            return [self.get("Q")] * count
        if encoding == 2:
            return earlier[self.get("H")]
        transform, width = self.get("BB")
        values = [0] * count
        for place in range(width):
            mode = self.get("B")
            plane = bytes([self.get("B")]) * count if mode == 0 else self.run(mode)
            values = [value | byte << 8 * place for value, byte in zip(values, plane)]
        if transform == 1:
            last = 0
            for index, value in enumerate(values):
                last = (last + (value >> 1 ^ -(value & 1))) & (1 << 64) - 1
                values[index] = last
        return values


class Trace:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        head = Bytes(self.data)
        if head.take(8) != b"NVPTRACE" or head.get("HH")[0] != 1:
            raise ValueError(f"{path} is not a trace of format 1")
        self.start = head.get("I")
        self.id, self.realtime, self.ticks_per_second = "%016x%016x" % head.get("QQ"), *head.get("QQ")
        head.get("Q")
        self.metadata = {head.text(): head.text() for _ in range(head.get("H"))}
        self.kinds = {}
        for _ in range(head.get("H")):
            number, carries, tail = head.get("BBB")
            name = head.text()
            fields = [(head.get("BBBB")[0], head.text()) for _ in range(head.get("B"))]
            self.kinds[number] = (name, carries, [field for _, field in fields])

    def chunks(self):
        """(header, body) of every chunk up to the index or the end."""
        at = self.start
        while self.data[at : at + 4] == b"CHNK":
            header = struct.unpack("<IIHBBIQIIQQQQQQII", self.data[at : at + HEADER])
            body = self.data[at + HEADER : at + HEADER + header[1]]
            yield header, body
            at += HEADER + header[1]

    def events(self):
        for header, body in self.chunks():
            _, _, stream, source, _, _, _, count, _, time = header[:10]
            reader = Bytes(body)
            order = reader.run(reader.get("B"))
            columns, kinds = [], {}
            for kind in sorted(set(order)):
                name, carries, fields = self.kinds[kind]
                rows = order.count(kind)
                first = len(columns)
                for _ in range(1 + len(fields)):
                    columns.append(reader.column(rows, columns))
                if carries:
                    reader.run(reader.get("B"))
                kinds[kind] = name, fields, iter(zip(*columns[first:]))
            for kind in order:
                name, fields, rows = kinds[kind]
                delta, *values = next(rows)
                time = (time + delta) & (1 << 64) - 1
                yield stream, SOURCES[source], time, name, dict(zip(fields, values))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for stream, source, time, name, fields in Trace(sys.argv[1]).events():
        head = {"time_ns": time, "source": source, "stream": stream, "event": name}
        print(json.dumps({**head, **fields}, separators=(",", ":")))


if __name__ == "__main__":
    main()
