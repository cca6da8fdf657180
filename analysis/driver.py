#!/usr/bin/env python3
"""Compute what commands of nvmet-pci-epf waited behind: a second analysis, written from docs/analysis.md.

    driver.py --against NVMEPF TRACE...     compare with `NVMEPF report --json TRACE`, number by number

Prints a line for each number that differs, and exits with 1; 0 if all agree. It needs a trace of one controller, with the
host's driver and without losses. Unlike nvmepf, which reads a trace in one pass, it first writes down what each CPU did
from the first event to the last, and then looks up every wait.
"""
import bisect
import json
import subprocess
import sys
from collections import Counter, defaultdict

import nvpt

KERNEL = 3
HOST, FROM_HOST, WINDOW = 1, 1, 8
COMPLETION_QUEUE = 1
CHANNELS = ["dma-from-host", "dma-to-host", "window"]


class CPU:
    """What a CPU did, as a list of (begin, end, activity), and its open work items, of which the last runs."""

    def __init__(self):
        self.log, self.open, self.until, self.polls = [], [], None, False

    def spend(self, time, activity):
        if self.until is None:
            self.until = time
        if time > self.until:
            self.log.append((self.until, time, activity))
            self.until = time

    def go_on(self, time):
        idle = "polling" if self.polls else "untraced"
        self.spend(time, self.open[-1][1] if self.open else idle)

    def between(self, begin, end):
        self.go_on(end)
        times = Counter()
        for place in range(max(0, bisect.bisect_right(self.log, (begin, float("inf"))) - 1), len(self.log)):
            first, last, activity = self.log[place]
            if first >= end:
                break
            times[activity] += max(0, min(last, end) - max(first, begin))
        times["unknown"] += end - begin - sum(times.values())
        return times


class Command:
    def __init__(self, event, cpu, submit, rung):
        self.qid, self.cpu = event.fields["qid"], cpu
        self.fetch_begin, self.fetched = event.time - event.fields["span"], event.time
        begin = self.fetch_begin if submit is None else min(submit, self.fetch_begin)
        self.begin, self.has_host = begin, submit is not None
        self.rung = min(max(begin, rung), self.fetch_begin)
        self.bytes = self.expected = self.channel = self.status = 0
        self.requested = self.executed = False
        self.ready = self.work = self.completion = self.end = None

    def counts(self):
        whole = self.status or self.requested and self.executed and self.bytes == self.expected and self.work
        return self.qid and self.has_host and self.end is not None and whole


class Driver:
    def __init__(self, path):
        self.cpus, self.places = defaultdict(CPU), {}
        self.commands, self.finished, self.completion_work = {}, [], {}
        self.submits, self.doorbells = {}, defaultdict(list)
        self.posted = {}
        self.transfers = {name: [] for name in CHANNELS}
        events = []
        for chunk in nvpt.Trace(path).chunks():
            if chunk.source != KERNEL:
                raise nvpt.Damaged("not only events of the kernel")
            events += [(event.time, chunk.stream, event) for event in chunk.decode()]
        owners = {}
        for _, stream, event in sorted(events, key=lambda e: e[:2]):
            if event.kind == "gap":
                raise nvpt.Damaged("events are lost")
            if event.kind == "origin":
                owners[stream] = event.fields["flags"] & HOST, event.fields["cpu"]
                # A host's driver that has no name yet may drive another controller.
                if not event.carried:
                    del owners[stream]
            elif stream in owners:
                is_host, cpu = owners[stream]
                (self.read_host if is_host else self.read)(event, cpu)

    def read_host(self, event, _):
        fields = event.fields
        if event.kind == "submit":
            self.submits[fields["qid"], fields["cid"]] = event.time
        elif event.kind == "doorbell" and not fields["flags"]:
            rings = self.doorbells[fields["qid"]]
            rings.append((event.time, rings[-1][2] if rings else -1, fields["value"]))
        elif event.kind == "completion":
            command = self.posted.pop((fields["cqid"], fields["cid"]), None)
            if command:
                command.end = event.time
                self.finished.append(command)

    def rung(self, qid, slot, since, default):
        for time, first, last in self.doorbells[qid]:
            inside = first <= slot < last if first <= last else slot >= first or slot < last
            if first < 0:
                inside = last in (0, slot + 1)
            if time >= since and inside:
                return time
        return default

    def read(self, event, cpu):
        kind, fields, time = event.kind, event.fields, event.time
        qid = fields.get("qid", fields.get("cqid", 0))
        item, command = (qid, fields.get("cid")), self.commands.get((qid, fields.get("cid")))
        runs, span = {"request": "map", "read": "map", "execute-begin": "execute"}.get(kind), 0
        if kind in ("fetch", "read", "segment"):
            span = fields["span"]
            self.transfer(event, command)
        if kind == "segment":
            runs = "data-in" if fields["flags"] & FROM_HOST else "data-out"
        if kind in ("completion", "interrupt", "interrupt-request"):
            self.resume((qid, None), cpu, "completion-work", time)
        elif runs:
            self.resume(item, cpu, runs, time, span)
        else:
            self.cpus[cpu].go_on(time - span)
        if kind == "fetch":
            self.fetch(event, cpu)
        elif kind in ("work", "work-end"):
            self.work(event, cpu, (qid, None) if fields["work"] == COMPLETION_QUEUE else item)
        elif kind in ("execute-end", "completion-queued"):
            self.change(item, "wake-up" if kind == "execute-end" else "complete", time)
        elif kind == "dropped":
            self.close(item, time)
        elif kind == "completion":
            self.complete(event)
        if command:
            command.requested |= kind == "request"
            if kind == "segment":
                command.bytes += fields["length"]
            elif kind == "execute-end":
                command.executed, command.expected, command.status = True, fields["bytes"], fields["status"]
            elif kind == "completion-queued":
                command.ready = time

    def fetch(self, event, cpu):
        fields = event.fields
        name = fields["qid"], fields["cid"]
        self.cpus[cpu].spend(event.time, "fetch")
        for other in self.cpus.values():
            if other.polls and other is not self.cpus[cpu]:
                other.go_on(event.time)
                other.polls = False
        self.cpus[cpu].polls = True
        submit = self.submits.pop(name, None)
        begin = event.time - fields["span"]
        rung = begin if submit is None else self.rung(fields["qid"], fields["slot"], submit, begin)
        self.commands[name] = Command(event, cpu, submit, rung)
        self.commands[name].channel = self.waited

    def work(self, event, cpu, item):
        self.close(item, event.time)
        if event.kind == "work-end":
            return
        self.run(item, cpu, "map" if item[1] is not None else "completion-work", event.time)
        if item[1] is None:
            self.completion_work[item[0]] = cpu, event.time
        elif item in self.commands:
            command = self.commands[item]
            wait = min(event.fields["queued"], event.time - command.fetched)
            command.work = cpu, event.time - wait, event.time

    def complete(self, event):
        item = event.fields["dw2"] >> 16, event.fields["cid"]
        self.close(item, event.time)
        command = self.commands.pop(item, None)
        if command:
            if command.ready is not None and event.fields["cqid"] in self.completion_work:
                cpu, began = self.completion_work[event.fields["cqid"]]
                command.completion = cpu, min(command.ready, began), began
            self.posted[item] = command

    def transfer(self, event, command):
        flags = event.fields["flags"]
        is_window, to_host = flags & WINDOW, event.kind == "segment" and not flags & FROM_HOST
        done = self.transfers[CHANNELS[2 if is_window else int(to_host)]]
        begin = event.time - event.fields["span"]
        free = max((end for _, end, _ in done[-1:]), default=0)
        self.waited = max(0, min(free, event.time) - begin)
        done.append((event.time, max(free, event.time), self.waited))
        if command and event.kind != "fetch":
            command.channel += self.waited

    # Work items.

    def resume(self, item, cpu, activity, time, span=0):
        self.cpus[cpu].go_on(time - span)
        self.cpus[cpu].spend(time, activity)
        if item in self.places:
            self.run(item, cpu, activity, time)

    def run(self, item, cpu, activity, time):
        if self.places.get(item, cpu) != cpu:
            self.close(item, time)
        self.places[item] = cpu
        self.cpus[cpu].open = [other for other in self.cpus[cpu].open if other[0] != item] + [(item, activity)]

    def change(self, item, activity, time):
        if item in self.places:
            cpu = self.cpus[self.places[item]]
            cpu.go_on(time)
            cpu.open = [(item, activity) if other[0] == item else other for other in cpu.open]

    def close(self, item, time):
        if item in self.places:
            cpu = self.cpus[self.places.pop(item)]
            cpu.go_on(time)
            cpu.open = [other for other in cpu.open if other[0] != item]

    # Result.

    def statistics(self):
        """The members of `driver` in the report, by name."""
        commands = [command for command in self.finished if command.counts()]
        waits = {
            "detect": [(command.cpu, command.rung, command.fetch_begin) for command in commands],
            "dispatch": [command.work for command in commands if command.work],
            "completion": [command.completion for command in commands if command.completion],
        }
        values = {"channel_wait_mean_ns": sum(command.channel for command in commands)}
        for name, spans in waits.items():
            times = sum((self.cpus[cpu].between(begin, end) for cpu, begin, end in spans), Counter())
            values.update({f"{name}_behind_ns.{activity}": ns for activity, ns in times.items()})
        return len(commands), values


def compare(nvmepf, path):
    count, ours = Driver(path).statistics()
    report = json.loads(subprocess.run([nvmepf, "report", "--json", path], stdout=subprocess.PIPE).stdout)
    differences = [] if count == report["commands"] else [f"{count} commands here, {report['commands']} in the report"]
    for name, member in report["driver"].items():
        parts = member if isinstance(member, dict) else {"": member} if name in ours else {}
        for part, mean in parts.items():
            key = f"{name}.{part}" if part else name
            if round(mean * report["commands"]) != ours.get(key, 0):
                differences.append(f"{key}: {ours.get(key, 0)} here, {mean * report['commands']} in the report")
    return count, sum(ours.values()), differences


def main(arguments):
    if len(arguments) < 3 or arguments[0] != "--against":
        sys.exit(__doc__)
    status = 0
    for path in arguments[2:]:
        count, ns, differences = compare(arguments[1], path)
        for difference in differences:
            print(f"{path}: {difference}")
        if differences:
            status = 1
        else:
            print(f"{path}: {count:,} commands waited {ns:,} ns, and all of it agrees")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (nvpt.Damaged, OSError) as error:
        sys.exit(f"{sys.argv[-1]}: {error}")
