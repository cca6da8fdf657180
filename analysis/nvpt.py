#!/usr/bin/env python3
"""Read an nvmepf trace: a second reader, written from docs/trace-format.md alone.

    nvpt.py TRACE       one line an event, stream after stream

As a module: `for stream, event in Trace(path).events(): ...`. Needs the `zstandard` package or the `zstd` program.
"""
import struct
import subprocess
import sys

CARRIES_BYTES = 0x80


class Damaged(Exception):
    pass


def _crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


_TABLE = _crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def decompress(frame, length):
    """One Zstandard frame of `length` bytes."""
    try:
        import zstandard

        data = zstandard.ZstdDecompressor().decompress(frame, max_output_size=length)
    except ImportError:
        data = subprocess.run(["zstd", "-dcq"], input=frame, stdout=subprocess.PIPE, check=True).stdout
    if len(data) != length:
        raise Damaged("a frame is not as long as its column")
    return data


class Bytes:
    """Takes little-endian values off the front of bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Damaged("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, width):
        return int.from_bytes(self.take(width), "little")

    def text(self, width):
        return self.take(self.number(width)).decode("utf-8", "replace")


def state_hash(checkpoint):
    """The hash of a checkpoint's bytes, as in a `state-hash` event."""
    mask, value = (1 << 64) - 1, 0
    words = [int.from_bytes(checkpoint[at : at + 8], "little") for at in range(0, len(checkpoint), 8)]
    for word in words + [len(checkpoint)]:
        value ^= word
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & mask
        value = (value ^ value >> 27) * 0x94D049BB133111EB & mask
        value ^= value >> 31
    return value


class Field:
    def __init__(self, data):
        self.offset, self.width, self.unit = data.number(2), data.number(1), data.number(1)
        self.name = data.text(1)


class Kind:
    def __init__(self, data):
        self.kind, self.carries_bytes = data.number(1), data.number(1) & 1
        self.tail_slots = data.number(1)
        count = data.number(1)
        self.name = data.text(1)
        self.fields = [Field(data) for _ in range(count)]


class Event:
    """`time` in nanoseconds, `kind` its name, `fields` by name, and the bytes that it carries."""

    __slots__ = ("time", "kind", "fields", "carried")

    def __init__(self, time, kind, fields, carried):
        self.time, self.kind, self.fields, self.carried = time, kind, fields, carried

    def __str__(self):
        words = [str(self.time), self.kind] + [f"{name}={value}" for name, value in self.fields.items()]
        return " ".join(words + ([self.carried.hex()] if self.carried else []))


class Column:
    def __init__(self, width, transform, base, planes):
        self.width, self.transform, self.base, self.planes = width, transform, base, planes

    def values(self, count):
        numbers = [0] * count
        for number, plane in enumerate(self.planes):
            numbers = [n | byte << 8 * number for n, byte in zip(numbers, plane)]
        if self.transform == 0:
            return numbers
        mask = (1 << 8 * self.width) - 1
        differences = [n >> 1 ^ -(n & 1) for n in numbers]
        if self.transform == 2:
            return [self.base + d & mask for d in differences]
        last = 0
        for index, difference in enumerate(differences):
            last = differences[index] = last + difference & mask
        return differences


class Chunk:
    def __init__(self, data, schema):
        if len(data) < 88 or data[:4] != b"NVPC" or crc32c(data[:84]) != struct.unpack_from("<I", data, 84)[0]:
            raise Damaged("a chunk's header fails its checksum")
        self.stream, self.source, self.flags, self.sequence, self.first_event, self.events, self.slots = (
            struct.unpack_from("<HBBQQII", data, 4)
        )
        self.first_time, self.last_time, self.ring_end, self.lost, self.commands = struct.unpack_from("<QQQQI", data, 32)
        length, crc = struct.unpack_from("<II", data, 76)
        self.length = 88 + length
        self.body = data[88 : self.length]
        if len(self.body) < length:
            raise Damaged("a chunk is cut short")
        if crc32c(self.body) != crc:
            raise Damaged("a chunk fails its checksum")
        self.schema = schema

    def decode(self):
        """The events, in the order of the stream."""
        data = Bytes(self.body)
        self.columns, self.planes = [], []
        counts = [(data.number(1), data.number(4)) for _ in range(data.number(1))]
        sequence = self._column(data, self.events)
        lanes = {kind: self._lane(data, self.schema[kind], count) for kind, count in counts}
        time = self.first_time
        for kind in sequence:
            layout, rows, carried = lanes[kind]
            distance, *values = next(rows)
            time = time + distance & 0xFFFFFFFFFFFFFFFF
            fields = {field.name: value for field, value in zip(layout.fields, values)}
            by_offset = {field.offset: value for field, value in zip(layout.fields, values)}
            follows = layout.carries_bytes and by_offset.get(9, 0) & CARRIES_BYTES
            yield Event(time, layout.name, fields, carried.take(by_offset[24]) if follows else b"")

    def _lane(self, data, layout, count):
        columns = [self._column(data, count)] + [self._column(data, count) for _ in layout.fields]
        carried = b""
        if layout.carries_bytes:
            length = data.number(4)
            if length:
                carried = self._bytes(data, data.number(1), length)
        return layout, zip(*columns), Bytes(carried)

    def _column(self, data, count):
        tag = data.number(1)
        if tag <= 8:
            self.columns.append([data.number(tag)] * count)
        elif tag == 0x10:
            self.columns.append(self.columns[data.number(2)])
        elif tag in (0x20, 0x21, 0x22):
            shape = data.number(1)
            base = data.number(8) if tag == 0x22 else 0
            planes = [self._plane(data, count) for _ in range(shape & 15)]
            self.columns.append(Column(1 << (shape >> 4), tag & 15, base, planes).values(count))
        else:
            raise Damaged("an unknown column")
        return self.columns[-1]

    def _plane(self, data, count):
        mode = data.number(1)
        if mode == 0:
            return data.take(1) * count
        if mode == 1:
            return self.planes[data.number(2)]
        self.planes.append(self._bytes(data, mode, count))
        return self.planes[-1]

    @staticmethod
    def _bytes(data, mode, count):
        if mode == 2:
            return data.take(count)
        if mode == 3:
            return decompress(data.take(data.number(4)), count)
        raise Damaged("unknown bytes")


class Trace:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        data = Bytes(self.data)
        if data.take(8) != b"NVPT\r\n\x1a\n":
            raise Damaged("not a trace of nvmepf")
        self.version = data.number(2), data.number(2)
        if self.version[0] > 1:
            raise Damaged(f"written in a newer format, {self.version[0]}.{self.version[1]}")
        self.header_length = data.number(4)
        header = self.data[: self.header_length]
        if crc32c(header[:-4]) != int.from_bytes(header[-4:], "little"):
            raise Damaged("the header fails its checksum")
        self.id = f"{data.number(8):016x}{data.number(8):016x}"
        self.start, self.multiplier, self.monotonic, self.realtime = (data.number(8) for _ in range(4))
        self.is_flight_recorder = data.number(4) & 1
        self.metadata = {}
        for _ in range(data.number(4)):
            key, value = data.number(4), data.number(4)
            key = data.take(key).decode()
            self.metadata[key] = data.take(value).decode()
        kinds = [Kind(data) for _ in range(data.number(2))]
        self.schema = {kind.kind: kind for kind in kinds}

    def chunks(self):
        """The chunks in the order of the file; `Damaged` at the first that is not whole."""
        position = self.header_length
        if self.is_flight_recorder:
            while position < len(self.data) and self.data[position : position + 8] == bytes(8):
                position += 8
        while position < len(self.data) and self.data[position : position + 4] != b"NVPI":
            chunk = Chunk(self.data[position:], self.schema)
            yield chunk
            position += chunk.length

    def events(self):
        for chunk in self.chunks():
            for event in chunk.decode():
                yield chunk.stream, event


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        for stream, event in Trace(sys.argv[1]).events():
            print(stream, event)
    except Damaged as error:
        sys.exit(f"{sys.argv[1]}: {error}")
