#!/usr/bin/env python3
"""Compute a report of our endpoint's trace: a second analysis, written from docs/analysis.md alone.

    stages.py TRACE                              print the statistics as JSON
    stages.py --against NVMEPF TRACE...          compare them with those of `NVMEPF report --json TRACE`
    stages.py --against NVMEPF --simulated N     the same with N traces of `NVMEPF simulate`, of different sizes

A comparison prints a line for each statistic that differs, and what was compared; it exits with 1 if any differs. Unlike
nvmepf, which reads a trace in one pass, this program first collects what each side wrote, and matches hosts and engine by
counting queue entries. It needs all events: it refuses traces with losses, of a flight recorder that discarded events, and
without an endpoint.
"""
import argparse
import bisect
import functools
import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict

import nvpt

ENGINE, HOST = 1, 2
FROM_HOST, HEAD, FAILED, LATER, JOINED = 1, 1, 2, 4, 4
SILENCE, ABSENCE = 100_000, 4_000
SIZES = [30, 100, 300, 1000]  # commands of simulated traces
EVENT_REQUEST = 0x0C
STAGES = ["detect", "fetch", "dispatch", "map", "data-in", "execute", "data-out", "complete", "interrupt", "reap", "recording"]
ACTIVITIES = [
    "fetch", "map", "data-in", "execute", "data-out", "complete", "interrupt", "engine", "recording", "poll", "absent",
]
INDEX = {name: index for index, name in enumerate(ACTIVITIES)}


class Timeline:
    """What the engine's thread did, as changes of activity: from `times[i]` on it did `activities[i]`."""

    def __init__(self):
        self.times, self.activities, self.totals, self.last = [], [], [], None
        self.stalls = []
        self.kind = None

    def add(self, time, kind, span, mapped, later):
        """An event: `mapped` if its command's map was before, `later` if an execute-end ends a deferred request."""
        after_checkpoint, self.kind = self.kind == "checkpoint", kind
        if self.last is None:
            self.last = time
        begin = max(self.last, time - span)
        if kind == "doorbell":
            self._poll(begin, time)
            return
        own, spanned = activity(kind, mapped, later, after_checkpoint)
        if kind == "map" and time - span < self.last:
            self._cover(time - span, self.last)
        elif spanned:
            self._spend(begin, "engine")
        self._spend(time, own)

    def _poll(self, begin, time):
        if time - begin < ABSENCE:
            self._spend(time, "poll")
            return
        self._spend(begin, "poll")
        self._spend(time, "absent")
        if time - begin >= SILENCE:
            self.stalls.append((begin, time))

    def _spend(self, until, name):
        """The thread did this until then."""
        if until <= self.last:
            return
        index = INDEX[name]
        if not self.activities or self.activities[-1] != index:
            totals = self.at(self.last)
            self.times.append(self.last)
            self.activities.append(index)
            self.totals.append(totals)
        self.last = until

    def _cover(self, begin, end):
        """A map's span reaches over the reads of its lists: what the engine did between them is map."""
        index = bisect.bisect_right(self.times, begin) - 1
        if index < 0:
            return
        pieces = list(zip(self.times[index + 1 :] + [end], self.activities[index:]))
        self.last = self.times[index]
        del self.times[index:], self.activities[index:], self.totals[index:]
        for until, was in pieces:
            if was == INDEX["engine"]:
                self._spend(min(until, begin), "engine")
                self._spend(until, "map")
            else:
                self._spend(until, ACTIVITIES[was])

    def at(self, time):
        """The totals of all activities, in nanoseconds, from the first event to `time`."""
        index = bisect.bisect_right(self.times, time) - 1
        if index < 0:
            return [0] * len(ACTIVITIES)
        totals = list(self.totals[index])
        until = self.times[index + 1] if index + 1 < len(self.times) else self.last
        totals[self.activities[index]] += max(0, min(time, until) - self.times[index])
        return totals

    def between(self, begin, end):
        return [b - a for a, b in zip(self.at(begin), self.at(end))]


def activity(kind, mapped, later, after_checkpoint):
    """The activity that ends with an event, and whether only its span is that."""
    if kind in ("fetch", "map"):
        return kind, True
    if kind == "segment-in" or kind == "read":
        return ("data-in" if mapped or kind == "segment-in" else "map"), True
    if kind == "segment-out" or kind == "write":
        return ("data-out" if mapped or kind == "segment-out" else "map"), True
    if kind in ("payload", "ring-wait", "state-hash"):
        return "recording", True
    if kind == "execute-end":
        return ("poll" if later else "execute"), False
    if kind in ("completion", "interrupt"):
        return kind.replace("completion", "complete"), False
    if kind in ("execute-begin", "completion-queue-full", "rest"):
        return "engine", False
    if kind == "clock" and after_checkpoint:
        return "recording", False
    return "poll", False


class Positions:
    """The valid doorbells of one queue as numbers of entries since the queue was created, with the time of each."""

    def __init__(self, size):
        self.size, self.counts, self.times = size, [], []

    def ring_head(self, time, value, posted):
        """A head doorbell, when `posted` entries were in the completion queue; one that frees more is ignored.

        Returns whether it is valid."""
        last = self.counts[-1] if self.counts else 0
        moved = (value - last) % self.size
        if value >= self.size or moved > posted - last:
            return False
        if moved:
            self._append(time, last + moved)
        return True

    def ring_tail(self, time, value, fetched):
        """A tail doorbell, when `fetched` entries were fetched; one that passes the head takes entries back.

        Returns whether it is valid."""
        if value >= self.size:
            return False
        tail = fetched + (value - fetched) % self.size
        while self.counts and self.counts[-1] > tail:
            self.counts.pop(), self.times.pop()
        if not self.counts or tail > self.counts[-1]:
            self._append(time, tail)
        return True

    def _append(self, time, count):
        self.counts.append(count)
        self.times.append(time)

    def covering(self, position):
        """When the entry number `position`, from 0, was announced or freed."""
        index = bisect.bisect_right(self.counts, position)
        return self.times[index] if index < len(self.counts) else None


class Intervals:
    """Periods that follow each other."""

    def __init__(self):
        self.begins, self.ends = [], []

    def add(self, begin, end):
        self.begins.append(begin)
        self.ends.append(end)

    def within(self, begin, end):
        """How much of this time they cover."""
        first, last = bisect.bisect_right(self.ends, begin), bisect.bisect_left(self.begins, end)
        return sum(min(end, self.ends[i]) - max(begin, self.begins[i]) for i in range(first, last))


class Queue:
    """One life of a queue, from its creation to its deletion or a reset."""

    def __init__(self, qid, size, created, is_cq):
        self.qid, self.size, self.created, self.is_cq = qid, size, created, is_cq
        self.ended = self.reason = None
        self.engine, self.host = Positions(size), Positions(size)
        self.seen, self.sights, self.submits = [], [], []
        self.has_host = False
        self.used = []  # times of its fetches, or of its completions
        self.polls = {}

    @property
    def count(self):
        return len(self.used)

    def ring(self, side, time, value):
        used = bisect.bisect_right(self.used, time)
        return (side.ring_head if self.is_cq else side.ring_tail)(time, value, used)


class Command:
    def __init__(self, sq, position, event):
        fields = event.fields
        self.sq, self.position, self.cid, self.opcode = sq, position, fields["cid"], fields["opcode"]
        self.slba = fields["slba"]  # Command Dwords 10 and 11
        self.fetched, self.fetch_begin = event.time, begin(event)
        self.map = self.execute_begin = self.execute_end = None
        self.data_in = self.data_out = self.digest_in = self.digest_out = None
        self.bytes_in = self.bytes_out = 0
        self.later = self.is_executing = False
        self.completed = self.before_completion = self.cq = self.cq_position = None
        self.status = 0
        self.interrupt = self.before_interrupt = None
        self.dropped = self.gone = self.begin = self.end = None

    def extend(self, name, begin, end):
        known = getattr(self, name)
        setattr(self, name, (begin, end) if known is None else (known[0], end))


class Engine:
    """Reads the engine's stream: commands, queues, and the timeline of its thread."""

    def __init__(self):
        self.timeline = Timeline()
        self.commands, self.in_flight = [], {}
        self.queues = {}  # (is a completion queue, qid): its present life
        self.lives = []
        self.unannounced = defaultdict(list)
        self.full, self.blocked = {}, defaultdict(Intervals)
        self.ring_waits = Intervals()
        self.previous = None
        self.aqa = 0
        self.counts = defaultdict(int)

    def read(self, event):
        kind, fields = event.kind, event.fields
        key = fields.get("qid"), fields.get("cid")
        command = self.in_flight.get(key) if kind != "doorbell" else None
        name, mapped, later = kind, False, False
        if kind == "segment":
            name = "segment-in" if fields["flags"] & FROM_HOST else "segment-out"
        if kind in ("read", "write"):
            mapped = command is not None and command.map is not None
        if kind == "execute-end":
            later = bool(fields["flags"] & LATER)
        span = fields.get("poll" if kind == "doorbell" else "span", 0)
        self.timeline.add(event.time, name, span, mapped, later)
        handler = getattr(self, "on_" + kind.replace("-", "_"), None)
        if handler:
            handler(event, fields, command)
        if kind != "ring-wait":
            self.previous = self.timeline.last

    def on_gap(self, event, fields, command):
        raise nvpt.Damaged("events were lost: this program needs all of them")

    def on_register_write(self, event, fields, command):
        if fields["offset"] == 0x24:
            self.aqa = fields["value"]
        if fields["offset"] == 0x14:
            if fields["value"] & 1:
                if (False, 0) not in self.queues:
                    self._create(False, 0, (self.aqa & 0xFFF) + 1, event.time)
                    self._create(True, 0, (self.aqa >> 16 & 0xFFF) + 1, event.time)
            elif self.queues:
                self._stop(event.time, "controller-reset")

    def on_reset(self, event, fields, command):
        reasons = {0: "device-reset", 1: "function-level-reset", 2: "host-gone", 3: "link-down"}
        self._stop(event.time, reasons.get(fields["reason"], "reset"))

    def _stop(self, time, reason):
        for queue in self.queues.values():
            queue.ended, queue.reason = time, reason
        self.queues, self.full = {}, {}
        for command in self.in_flight.values():
            command.dropped, command.gone = reason, time
        self.in_flight = {}
        self.unannounced.clear()

    def _create(self, is_cq, qid, size, time):
        queue = Queue(qid, size, time, is_cq)
        self.queues[is_cq, qid] = queue
        self.lives.append(queue)

    def on_doorbell(self, event, fields, command):
        is_cq = bool(fields["flags"] & HEAD)
        queue = self.queues.get((is_cq, fields["qid"]))
        if queue:
            announced = queue.engine.counts[-1:]
            is_valid = queue.ring(queue.engine, event.time, fields["value"])
            queue.polls[event.time] = fields["poll"]
            if is_cq and is_valid and fields["qid"] in self.full:
                self.blocked[queue].add(self.full.pop(fields["qid"]), event.time)
            if not is_cq and fields["qid"] and queue.engine.counts[-1:] != announced:
                self.counts["doorbells"] += 1

    def on_fetch(self, event, fields, command):
        qid = fields["qid"]
        queue = self.queues.get((False, qid))
        if queue is None or fields["flags"] & FAILED:
            return
        position = queue.count
        queue.used.append(event.time)
        command = Command(queue, position, event)
        if qid:
            self.counts["entries"] += 1
            self.counts["fetches"] += 0 if fields["flags"] & JOINED else 1
        self.in_flight[qid, fields["cid"]] = command
        self.commands.append(command)

    def on_map(self, event, fields, command):
        if command:
            command.map = (max(begin(event), command.fetched), event.time)

    def on_read(self, event, fields, command):
        if command and command.map:
            command.extend("data_in", begin(event), event.time)
        elif command:
            self.counts["list_reads"] += 1 if command.sq.qid else 0

    def on_write(self, event, fields, command):
        if command:
            command.extend("data_out", begin(event), event.time)

    def on_segment(self, event, fields, command):
        if command:
            self.counts["segments"] += 1 if command.sq.qid else 0
            moved = 0 if fields["flags"] & FAILED else fields["length"]
            if fields["flags"] & FROM_HOST:
                command.extend("data_in", begin(event), event.time)
                command.bytes_in += moved
            else:
                command.extend("data_out", begin(event), event.time)
                command.bytes_out += moved

    def on_payload(self, event, fields, command):
        if command:
            command.extend("digest_in" if fields["flags"] & FROM_HOST else "digest_out", begin(event), event.time)

    def on_execute_begin(self, event, fields, command):
        if command:
            command.is_executing = True
            if command.execute_begin is None:
                command.execute_begin = event.time

    def on_execute_end(self, event, fields, command):
        # A backend may complete a request twice; the engine ignores that.
        if command and command.is_executing:
            command.is_executing = False
            command.execute_end = event.time
            command.later = bool(fields["flags"] & LATER)
            self.counts["completed_later"] += 1 if command.later and command.sq.qid else 0

    def on_completion_queue_full(self, event, fields, command):
        self.full.setdefault(fields["cqid"], event.time)

    def on_ring_wait(self, event, fields, command):
        self.ring_waits.add(begin(event), event.time)

    def on_completion(self, event, fields, _):
        if fields["flags"] & FAILED:
            return
        sqid, status = fields["dw2"] >> 16, fields["dw3"] >> 17
        cq = self.queues.get((True, fields["cqid"]))
        if cq:
            cq.used.append(event.time)
        command = self.in_flight.pop((sqid, fields["cid"]), None)
        if command:
            command.completed, command.before_completion = event.time, self.previous
            command.cq, command.cq_position, command.status = cq, cq and cq.count - 1, status
            if sqid == 0 and status & 0x7FF == 0:
                self._administer(command, event.time)
            self.unannounced[fields["cqid"]].append(command)

    def _administer(self, command, time):
        """A successful admin command creates or deletes a queue."""
        opcode, qid, size = command.opcode, command.slba & 0xFFFF, (command.slba >> 16 & 0xFFFF) + 1
        if opcode == 0x01:
            self._create(False, qid, size, time)
        elif opcode == 0x05:
            self._create(True, qid, size, time)
        elif opcode in (0x00, 0x04):
            queue = self.queues.pop((opcode == 0x04, qid), None)
            if queue:
                queue.ended, queue.reason = time, "queue-deletion"
            if opcode == 0x00:
                for key in [key for key in self.in_flight if key[0] == qid]:
                    command = self.in_flight.pop(key)
                    command.dropped, command.gone = "queue-deletion", time

    def on_interrupt(self, event, fields, _):
        if fields["cqid"]:
            self.counts["interrupts"] += 1
        for command in self.unannounced.pop(fields["cqid"], []):
            command.interrupt, command.before_interrupt = event.time, self.previous


class Host:
    """One stream of a host: its doorbells, the completions that it saw, and how it spent its time."""

    def __init__(self):
        self.events = []  # (time, kind, qid, head?, value or cid)
        self.posted = {}

    def read(self, event):
        fields, kind = event.fields, event.kind
        if kind == "doorbell":
            self.events.append((event.time, kind, fields["qid"], fields["flags"] & HEAD, fields["value"]))
        elif kind == "completion":
            self.events.append((event.time, kind, fields["cqid"], 0, fields["dw2"] >> 16 << 16 | fields["cid"]))
        elif kind == "rest":
            self.events.append((event.time, kind, fields["qid"], 0, fields["span"]))
        else:
            self.events.append((event.time, kind, fields.get("qid", 0), 0, fields.get("cid", 0)))


def overlap(one, other):
    """The time in both of two spans."""
    begin = max(one[0], other[0])
    return begin, max(begin, min(one[1], other[1]))


def life(lives, time):
    """The life of a queue at a time."""
    index = bisect.bisect_right([queue.created for queue in lives], time) - 1
    return lives[index] if index >= 0 else None


class Analysis:
    def __init__(self, path):
        trace = nvpt.Trace(path)
        engines, self.hosts = defaultdict(Engine), defaultdict(Host)
        next_event = defaultdict(int)
        for chunk in trace.chunks():
            missing = chunk.first_event - next_event[chunk.source, chunk.stream]
            next_event[chunk.source, chunk.stream] = chunk.first_event + chunk.events
            if missing:
                raise nvpt.Damaged("events are missing: this program needs all of them")
            reader = {ENGINE: engines, HOST: self.hosts}.get(chunk.source)
            for event in chunk.decode() if reader is not None else []:
                reader[chunk.stream].read(event)
        if len(engines) != 1:
            raise nvpt.Damaged(f"{len(engines)} engines: this program analyses traces of one")
        self.engine = next(iter(engines.values()))
        self.inversions = 0
        self._match_hosts()
        finished = [c for c in self.engine.commands if self._finish(c)]
        self.finished = sorted((c for c in finished if c.sq.qid), key=lambda c: (c.end, c.completed))
        self.admin = [c for c in finished if not c.sq.qid and c.opcode != EVENT_REQUEST]

    def _match_hosts(self):
        lives = defaultdict(list)
        for queue in self.engine.lives:
            lives[queue.is_cq, queue.qid].append(queue)
        for host in self.hosts.values():
            last, idle, rest, sight = None, (0, 0), (0, 0), None
            for time, kind, qid, head, value in host.events:
                if kind == "rest":
                    rest = time - value, time
                    continue
                if sight:
                    sight["next"], sight = time, None
                if kind == "doorbell":
                    queue = life(lives[bool(head), qid], time)
                    if queue:
                        queue.has_host = True
                        queue.ring(queue.host, time, value)
                elif kind == "submit":
                    queue = life(lives[False, qid], time)
                    if queue:
                        queue.submits.append(time)
                elif kind == "completion":
                    queue = life(lives[True, qid], time)
                    if queue:
                        posted = queue.used[len(queue.seen)] if len(queue.seen) < queue.count else None
                        host.posted[time, qid, value] = posted
                        if qid and last is None:
                            idle = 0, time
                        elif qid and posted is not None and posted > last:
                            idle = last, time
                        sight = {"idle": idle, "rest": rest, "next": None}
                        queue.seen.append(time)
                        queue.sights.append(sight)
                if qid and kind in ("submit", "doorbell", "completion"):
                    last = time

    def _finish(self, c):
        """The stages of a command that was completed and reaped; false of any other."""
        c.announced = (c.sq.host if c.sq.has_host else c.sq.engine).covering(c.position)
        c.noticed = c.sq.engine.covering(c.position)
        if c.announced is None:
            return False
        c.begin = min(c.announced, c.fetch_begin)
        self.inversions += c.announced > c.fetch_begin
        if c.completed is None or c.cq is None:
            return False
        reaped = (c.cq.host if c.cq.has_host else c.cq.engine).covering(c.cq_position)
        if reaped is None or (c.cq.ended is not None and reaped > c.cq.ended):
            if c.cq.ended is not None:
                c.gone, c.dropped = c.cq.ended, c.cq.reason
            return False
        if c.interrupt is not None and c.interrupt > reaped:
            c.interrupt = None
        c.end = max(reaped, c.completed)
        self.inversions += reaped < c.completed
        c.seen = c.cq.seen[c.cq_position] if c.cq_position < len(c.cq.seen) else None
        c.submitted = c.sq.submits[c.position] if c.position < len(c.sq.submits) else None
        self._stages(c)
        self._waits(c)
        return True

    def _stages(self, c):
        turn = c.map[0] if c.map else min((x for x in (c.data_in and c.data_in[0], c.execute_begin) if x), default=None)
        known = [
            ("detect", (c.begin, c.fetch_begin)), ("fetch", (c.fetch_begin, c.fetched)), ("dispatch", turn and (c.fetched, turn)),
            ("map", c.map), ("data-in", c.data_in), ("recording", c.digest_in),
            ("execute", c.execute_end and (c.execute_begin, c.execute_end)),
            ("data-out", c.data_out), ("recording", c.digest_out),
        ]
        c.stages, c.unexplained, spans, c.last = defaultdict(int), 0, {}, c.begin
        for name, span in known:
            if span and span[1] > span[0]:
                start, until = max(c.last, span[0]), max(c.last, span[1])
                c.unexplained += start - c.last
                c.stages[name] += until - start
                spans[name] = start, until
                c.last = until
        spans["complete"] = (c.last, c.completed)
        if c.interrupt is not None:
            spans["interrupt"] = (c.completed, c.interrupt)
        spans["reap"] = (c.completed if c.interrupt is None else c.interrupt, c.end)
        for name in ("complete", "interrupt", "reap"):
            if name in spans:
                c.stages[name] = spans[name][1] - spans[name][0]
        # What the thread did for the recording while it served the command.
        since = {"complete": c.before_completion, "interrupt": c.before_interrupt, "map": 0, "data-in": 0, "data-out": 0}
        if not c.later:
            since["execute"] = 0
        for name, before in since.items():
            if name in spans and spans[name][1] > max(before, spans[name][0]):
                served = self.engine.timeline.between(max(before, spans[name][0]), spans[name][1])
                c.stages[name] -= served[INDEX["recording"]]
                c.stages["recording"] += served[INDEX["recording"]]
        c.total = c.end - c.begin
        assert c.total == c.unexplained + sum(c.stages.values())
        c.reap = spans["reap"]
        c.parts = {
            "turn": max(0, c.fetch_begin - max(c.begin, c.noticed)) if c.noticed is not None else 0,
            "handling": max(0, c.end - max(c.seen, spans["reap"][0])) if c.seen is not None else 0,
            "cq_full": self.engine.blocked[c.cq].within(*spans["complete"]),
        }

    def _waits(self, c):
        waits = {"detect": (c.begin, c.fetch_begin)}
        turn = c.map[0] if c.map else c.execute_begin
        if turn is not None:
            waits["dispatch"] = (c.fetched, turn)
        waits["complete"] = (c.last, c.before_completion)
        if c.interrupt is not None:
            waits["interrupt"] = (c.completed, c.before_interrupt)
        c.waits, c.behind = {}, [0] * len(ACTIVITIES)
        for name, (begin, end) in waits.items():
            if end > begin:
                c.waits[name] = end - begin
                c.behind = [x + y for x, y in zip(c.behind, self.engine.timeline.between(begin, end))]
        c.behind_host = self._host_waits(c)
        if sum(c.behind_host.values()):
            c.waits["reap"] = sum(c.behind_host.values())
        c.waiting = sum(c.waits.values())

    def _host_waits(self, c):
        """What the host's thread did while the entry waited to be seen and, handled, to be freed."""
        waits = {"busy": 0, "rested": 0, "polled": 0}
        if c.seen is None:
            return waits
        (begin, end), sight = c.reap, c.cq.sights[c.cq_position]
        seen = min(c.seen, end)
        idle = overlap((begin, seen), sight["idle"])
        rested = overlap(idle, sight["rest"])
        waits["rested"] = rested[1] - rested[0]
        waits["polled"] = idle[1] - idle[0] - waits["rested"]
        waits["busy"] = max(0, seen - begin) - (idle[1] - idle[0])
        if sight["next"] is not None:
            waits["busy"] += max(0, end - max(sight["next"], seen, begin))
        return waits


class HostTime:
    """How the threads of all hosts spent their time in I/O queues."""

    def __init__(self, hosts):
        self.threads = self.work = self.reaction = self.wait = 0
        self.stalls = []
        for host in hosts:
            events = [event for event in host.events if event[2] and event[1] in ("submit", "doorbell", "completion")]
            self.threads += 1 if events else 0
            for before, (time, kind, qid, _, value) in zip(events, events[1:]):
                posted = host.posted.get((time, qid, value)) if kind == "completion" else None
                self._add(before[0], time, posted)

    def _add(self, before, time, posted):
        if posted is not None and posted > before:
            self.wait += min(posted, time) - before
            self.reaction += self._busy(min(posted, time), time)
        else:
            self.work += self._busy(before, time)

    def _busy(self, begin, end):
        if end - begin < SILENCE:
            return end - begin
        self.stalls.append((begin, end))
        return 0


def begin(event):
    """When an event began; a trace of an older version has no span in some kinds."""
    return event.time - event.fields.get("span", 0)


# Statistics

SHARES = [("p50_ns", 0.5), ("p99_ns", 0.99), ("p999_ns", 0.999)]


def bucket(value):
    """The lower limit of the bucket of one part in 128 that contains a latency."""
    shift = max(0, value.bit_length() - 8)
    return value >> shift << shift


class Bands:
    """Commands by latency, a bucket at a time; a bucket that a limit divides gives each side its share."""

    def __init__(self, commands):
        buckets = defaultdict(list)
        for command in commands:
            buckets[bucket(command.total)].append(command)
        self.count = len(commands)
        self.buckets = []
        seen = 0
        for lower in sorted(buckets):
            members = buckets[lower]
            sums = [sum(c.total for c in members), sum(c.waiting for c in members), sum(c.unexplained for c in members)]
            sums += [sum(c.stages.get(stage, 0) for c in members) for stage in STAGES]
            self.buckets.append((lower, seen, len(members), sums))
            seen += len(members)

    def band(self, low, high):
        begin, end = self.count * low, self.count * high
        count, sums, first = 0, [0] * (3 + len(STAGES)), None
        for lower, before, members, totals in self.buckets:
            inside = min(end, before + members) - max(begin, before)
            if inside > 1e-9:
                first = lower if first is None else first
                count += inside
                sums = [s + t * inside / members for s, t in zip(sums, totals)]
        means = [s / count for s in sums]
        names = dict(zip(STAGES, means[3:]))
        return {
            "from": low, "up_to": high, "commands": count, "from_ns": first, "mean_ns": means[0],
            "waiting_mean_ns": means[1], "unexplained_mean_ns": means[2], "stage_means_ns": names,
        }

    def all(self):
        limits = [0] + [p for p in (0.5, 0.9, 0.99, 0.999) if self.count * (1 - p) >= 10 - 1e-9] + [1]
        return [self.band(low, high) for low, high in zip(limits, limits[1:])]


def depth(analysis, begin, end):
    """Commands in flight from their beginning to their end: the mean over this time, and the maximum."""
    changes = []
    for c in analysis.engine.commands:
        if c.sq.qid and c.begin is not None:
            changes.append((c.begin, 1, 1))
            until = c.end if c.end is not None else c.gone
            if until is not None:
                changes.append((until, 0, -1))
    area = count = most = 0
    last = begin
    for time, _, change in sorted(changes):
        inside = min(max(time, begin), end)
        area += count * (inside - last)
        last = inside
        count += change
        most = max(most, count)
    return (area + count * (end - last)) / max(1, end - begin), most


class Report:
    """All statistics, by the names of `nvmepf report --json`: name -> (value, how to compare)."""

    def __init__(self, analysis):
        self.values = {}
        self.analysis, self.commands = analysis, analysis.finished
        self._counts()
        if self.commands:
            self._distributions()
            self._bands()
            self._use()
            self._groups()
            self._windows()

    def put(self, name, value, how="exact"):
        self.values[name] = value, how

    def _counts(self):
        a, commands = self.analysis, self.commands
        self.put("commands", len(commands))
        self.put("admin_commands", len(a.admin))
        self.put("failed", sum(c.status & 0x7FF != 0 for c in commands))
        self.put("bytes_from_host", sum(c.bytes_in for c in commands))
        self.put("bytes_to_host", sum(c.bytes_out for c in commands))
        self.put("inversions", a.inversions)
        waits = a.engine.ring_waits
        self.put("ring_waits", len(waits.begins))
        self.put("ring_wait_ns", sum(waits.ends) - sum(waits.begins))
        dropped = Counter(c.dropped for c in a.engine.commands if c.sq.qid and c.dropped)
        self.put("interrupted", sum(dropped.values()))
        for reason, count in dropped.items():
            self.put(f"dropped.{reason}", count)

    def _distributions(self):
        commands = self.commands
        total = sum(c.total for c in commands)
        self.distribution("latency", [c.total for c in commands])
        for stage in STAGES:
            self.distribution(f"stages.{stage}", [c.stages.get(stage, 0) for c in commands], total)
            self.put(f"stages.{stage}.waiting_mean_ns", mean(c.waits.get(stage, 0) for c in commands), "mean")
        self.put("stages.detect.turn_mean_ns", mean(c.parts["turn"] for c in commands), "mean")
        if any(c.sq.has_host for c in commands):
            self.put("stages.reap.handling_mean_ns", mean(c.parts["handling"] for c in commands), "mean")
        self.put("stages.complete.cq_full_mean_ns", mean(c.parts["cq_full"] for c in commands), "mean")
        self.distribution("unexplained", [c.unexplained for c in commands], total)
        self.distribution("waiting", [c.waiting for c in commands], total)
        for index, name in enumerate(ACTIVITIES):
            self.put(f"waiting_behind_ns.{name}", mean(c.behind[index] for c in commands), "mean")
        for name in ("busy", "rested", "polled"):
            self.put(f"waiting_behind_host_ns.{name}", mean(c.behind_host[name] for c in commands), "mean")
        submits = [c.begin - c.submitted for c in commands if c.submitted is not None]
        if submits:
            self.distribution("host_submit", submits)
        unseen = [c.sq.polls[c.noticed] for c in commands if not c.sq.has_host and c.noticed is not None]
        if unseen:
            self.distribution("undetected", unseen)

    def distribution(self, name, values, total=None, intervals=True):
        self.put(f"{name}.mean_ns", mean(values), "mean")
        self.put(f"{name}.max_ns", max(values))
        if intervals and len(values) >= 1000:
            low, high = interval(values)
            self.put(f"{name}.mean_low_ns", low, "mean")
            self.put(f"{name}.mean_high_ns", high, "mean")
        if total:
            self.put(f"{name}.share", sum(values) / total, "mean")
        having = sorted(value for value in values if value)
        self.put(f"{name}.having", len(having))
        for key, share in SHARES:
            if len(having) * (1 - share) < 10 - 1e-9:
                self.put(f"{name}.{key}", None)
            else:
                at = len(having) * share
                low, high = having[max(0, int(at) - 2)], having[min(len(having) - 1, int(at) + 1)]
                self.put(f"{name}.{key}", (low, high), "quantile")

    def _bands(self):
        bands = Bands(self.commands)
        self.band("typical", bands.band(0.45, 0.55))
        for index, band in enumerate(bands.all()):
            self.band(f"bands.{index}", band)

    def band(self, name, band):
        for key, value in band.items():
            if key == "stage_means_ns":
                for stage, number in value.items():
                    self.put(f"{name}.{key}.{stage}", number, "mean")
            else:
                self.put(f"{name}.{key}", value, "exact" if key == "from_ns" else "mean")

    def _use(self):
        a, commands = self.analysis, self.commands
        begin, end = min(c.begin for c in commands), max(c.end for c in commands)
        duration = end - begin
        self.put("duration_ns", duration)
        self.put("iops", len(commands) * 1e9 / duration if duration else 0, "mean")
        self.put("queue_depth", sum(c.total for c in commands) / duration if duration else 0, "mean")
        counted, most = depth(a, begin, end)
        self.put("queue_depth_counted", counted, "mean")
        self.put("queue_depth_max", most)
        totals = dict(zip(ACTIVITIES, a.engine.timeline.between(begin, end)))
        for name, value in totals.items():
            self.put(f"server.activities_ns.{name}", value)
        self.put("server.total_ns", sum(totals.values()))
        self.put("server.busy_ns", sum(totals.values()) - totals["poll"] - totals["absent"])
        self.stalls("server.stalls", [s for s in a.engine.timeline.stalls if begin < s[1] <= end])
        for name in ("doorbells", "fetches", "entries", "segments", "list_reads", "interrupts", "completed_later"):
            self.put(f"server.{name}", a.engine.counts[name])
        host = HostTime(a.hosts.values())
        if host.threads:
            self.put("hosts.threads", host.threads)
            self.put("hosts.work_ns", host.work)
            self.put("hosts.reaction_ns", host.reaction)
            self.put("hosts.wait_ns", host.wait)
            self.stalls("hosts.stalls", host.stalls)

    def _groups(self):
        for qid in {c.sq.qid for c in self.commands}:
            members, name = [c for c in self.commands if c.sq.qid == qid], f"groups.queue {qid}"
            duration = max(c.end for c in members) - min(c.begin for c in members)
            total = sum(c.total for c in members)
            self.put(f"{name}.commands", len(members))
            self.put(f"{name}.failed", sum(c.status & 0x7FF != 0 for c in members))
            self.put(f"{name}.duration_ns", duration)
            self.put(f"{name}.iops", len(members) * 1e9 / duration, "mean")
            self.put(f"{name}.queue_depth", total / duration, "mean")
            self.put(f"{name}.bytes_from_host", sum(c.bytes_in for c in members))
            self.put(f"{name}.bytes_to_host", sum(c.bytes_out for c in members))
            self.distribution(f"{name}.latency", [c.total for c in members], intervals=False)
            for stage in STAGES:
                self.distribution(f"{name}.stages.{stage}", [c.stages[stage] for c in members], total, intervals=False)

    def _windows(self):
        begin, end = min(c.begin for c in self.commands), max(c.end for c in self.commands)
        self.window = (end - begin) // 9 + 1
        ends = defaultdict(list)
        for c in self.commands:
            ends[c.end // self.window].append(c)
        for number, index in enumerate(range(begin // self.window, end // self.window + 1)):
            low, high = max(begin, index * self.window), min(end, (index + 1) * self.window)
            members, name = ends[index], f"windows.{number}"
            area = sum(max(0, min(c.end, high) - max(c.begin, low)) for c in self.commands)
            self.put(f"{name}.from_ns", low)
            self.put(f"{name}.to_ns", high)
            self.put(f"{name}.commands", len(members))
            self.put(f"{name}.mean_ns", mean(c.total for c in members), "mean")
            self.put(f"{name}.max_ns", max((c.total for c in members), default=0))
            self.put(f"{name}.queue_depth", area / (high - low) if high > low else 0, "mean")

    def stalls(self, name, stalls):
        self.put(f"{name}.count", len(stalls))
        self.put(f"{name}.total_ns", sum(end - begin for begin, end in stalls))
        self.put(f"{name}.longest_ns", max((end - begin for begin, end in stalls), default=0))


def interval(values):
    """The 95% interval of the mean of values in the order in which their commands end, from batches of neighbours."""
    size, batches = 16, []
    for index in range(0, len(values) - size + 1, size):
        batches.append(sum(values[index : index + size]))
    while len(batches) >= 90:
        batches = [sum(batches[i : i + 2]) for i in range(0, len(batches) - 1, 2)]
        size *= 2
    joined = 2 if len(batches) < 60 else 3
    size *= joined
    means = [sum(batches[i : i + joined]) / size for i in range(0, len(batches) - joined + 1, joined)]
    b, middle = len(means), sum(means) / len(means)
    squares = sum((x - middle) ** 2 for x in means)
    neighbours = sum((x - middle) * (y - middle) for x, y in zip(means, means[1:]))
    correlation = max(0, neighbours / squares) if squares else 0
    error = student_t(b - 1) * math.sqrt(squares / (b - 1) / b * (1 + 2 * correlation))
    return mean(values) - error, mean(values) + error


@functools.lru_cache(None)
def student_t(freedom, probability=0.975):
    """The quantile of Student's t, by integrating its density with Simpson's rule."""
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)

    def beyond_half(t, steps=2000):
        points = [scale * (1 + (t * i / steps) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(steps + 1)]
        return t / steps / 3 * (points[0] + points[-1] + 4 * sum(points[1:-1:2]) + 2 * sum(points[2:-1:2]))

    low, high = 0.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond_half(middle) < probability - 0.5 else (low, middle)
    return low


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0


def flat(value, name=""):
    """The members of a JSON object by their path; stages by name, bands by number."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from flat(member, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            key = member.get("stage", member.get("group", index)) if isinstance(member, dict) else index
            yield from flat(member, f"{name}.{key}")
    else:
        yield name, value


def agrees(ours, how, theirs):
    if how == "quantile" and theirs is not None:
        low, high = ours
        return low * (1 - 1 / 128) - 1 <= theirs <= high * (1 + 1 / 128) + 1
    if how == "mean" and theirs is not None:
        return abs(ours - theirs) <= 1e-6 * max(abs(ours), abs(theirs)) + 1e-9
    return ours == theirs


def compare(nvmepf, path):
    """The statistics that agree, and the sentences about those that do not."""
    report = Report(Analysis(path))
    window = ["--window", f"{report.window}ns"] if report.commands else []
    output = subprocess.run([nvmepf, "report", "--json", "--by", "queue", *window, path], stdout=subprocess.PIPE)
    try:
        theirs = dict(flat(json.loads(output.stdout)))
    except ValueError:
        return report, 0, [f"{nvmepf} report --json fails with {output.returncode}"]
    agreed, differences = 0, []
    for name, (ours, how) in report.values.items():
        if name in theirs and agrees(ours, how, theirs[name]):
            agreed += 1
        else:
            differences.append(f"{name}: {ours} here, {theirs.get(name, 'nothing')} in the report")
    return report, agreed, differences


def compare_trace(job):
    """Of one trace, or of the one that a seed and a number of commands give: commands, statistics, what differs."""
    nvmepf, path, simulated = job
    try:
        with tempfile.TemporaryDirectory() as directory:
            name = path
            if simulated:
                seed, commands = simulated
                path, name = f"{directory}/trace.nvpt", f"nvmepf simulate --seed {seed} --commands {commands}"
                arguments = [nvmepf, "simulate", "--seed", str(seed), "--commands", str(commands), "-o", path]
                run = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                if run.returncode:
                    return 0, 0, [f"{name}: {run.stdout.decode(errors='replace').strip()}"]
            report, agreed, differences = compare(nvmepf, path)
            return len(report.commands), agreed, [f"{name}: {difference}" for difference in differences]
    except (nvpt.Damaged, OSError) as error:
        return 0, 0, [f"{name}: {error}"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("traces", nargs="*")
    parser.add_argument("--against")
    parser.add_argument("--simulated", type=int, default=0)
    options = parser.parse_args()
    if not options.against:
        if len(options.traces) != 1:
            parser.error("exactly one trace, or --against")
        values = Report(Analysis(options.traces[0])).values
        print(json.dumps({name: value for name, (value, _) in values.items()}, indent=2))
        return 0
    jobs = [(options.against, path, None) for path in options.traces]
    jobs += [(options.against, None, (seed, SIZES[seed % len(SIZES)])) for seed in range(1, options.simulated + 1)]
    commands = agreed = 0
    differences = []
    with multiprocessing.Pool() as pool:
        for result in pool.imap(compare_trace, jobs):
            commands, agreed, differences = commands + result[0], agreed + result[1], differences + result[2]
            for difference in result[2]:
                print(difference, flush=True)
    print(
        f"report: {len(options.traces)} recorded and {options.simulated} simulated traces, {commands:,} I/O commands: "
        f"{agreed:,} statistics agree with {os.path.basename(__file__)}, {len(differences):,} differ"
    )
    return 1 if differences or not agreed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (nvpt.Damaged, OSError) as error:
        sys.exit(f"{sys.argv[-1]}: {error}")
