import Analysis
@_spi(Places) import Events
import NVMe
import Trace

/// Events as they would stand in a trace's streams, put down in any order.
struct Script {
  struct Event {
    var record: Record
    var source: Source
    var stream: Int
    var tail: [UInt8]
  }

  private(set) var events: [Event] = []

  /// A script that begins with the host enabling the controller.
  static func enabled(at time: UInt64 = 0) -> Script {
    var script = Script()
    script.add(Record(time: time, kind: .registerWrite, flags: 4, a: Register.cc, b: 1))
    return script
  }

  /// A script in which the host creates I/O queue 1 with this many entries; all is done at 900.
  static func created(entries: UInt32) -> Script {
    var script = Script()
    script.add(Record(time: 1, kind: .registerWrite, flags: 4, a: Register.aqa, b: 31 | 31 << 16))
    script.add(Record(time: 2, kind: .registerWrite, flags: 4, a: Register.cc, b: 1))
    script.setUp(.createIOCompletionQueue, at: 100, slot: 0, entries: entries)
    script.setUp(.createIOSubmissionQueue, at: 500, slot: 1, entries: entries)
    return script
  }

  /// An admin command about queue 1: fetched after 20 ns, completed after 100 with this status, freed after 200.
  mutating func setUp(
    _ opcode: AdminOpcode, at time: UInt64, slot: UInt32, entries: UInt32 = 1, status: UInt32 = 0
  ) {
    tail(at: time, qid: 0, slot + 1)
    fetch(at: time + 20, qid: 0, cid: UInt16(slot), slot: slot, opcode: opcode.rawValue, cdw10: 1 | (entries - 1) << 16)
    let dw3 = slot | 1 << 16 | status << 17
    add(Record(time: time + 100, kind: .completion, qid: 0, cid: UInt16(slot), b: Record.pair(0, dw3)))
    head(at: time + 200, qid: 0, slot + 1)
  }

  mutating func add(_ record: Record, _ source: Source = .engine, stream: Int = 0, tail: [UInt8] = []) {
    events.append(Event(record: record, source: source, stream: stream, tail: tail))
  }

  /// What the analyzer makes of the events, in the order of their times.
  func run(grouping: Grouping? = nil) -> (summary: Summary, commands: [CommandTimes]) {
    final class Collector { var commands: [CommandTimes] = [] }
    let collector = Collector()
    var analyzer = StageAnalyzer(grouping: grouping)
    analyzer.onCommand = { collector.commands.append(copy $0) }
    let order = events.indices.sorted { (events[$0].record.time, $0) < (events[$1].record.time, $1) }
    for index in order {
      let event = events[index]
      event.tail.withUnsafeBytes { analyzer.ingest(event.record, source: event.source, stream: event.stream, tail: $0) }
    }
    return (analyzer.summary(), collector.commands)
  }

  // MARK: Events

  mutating func submit(at time: UInt64, qid: UInt16 = 1, cid: UInt16, opcode: UInt8 = 2) {
    add(Record(time: time, kind: .submit, flags: opcode, qid: qid, cid: cid), .host)
  }

  mutating func tail(
    at time: UInt64, qid: UInt16 = 1, _ value: UInt32, poll: UInt32 = 0, _ source: Source = .engine, stream: Int = 0
  ) {
    add(Record(time: time, kind: .doorbell, qid: qid, a: UInt64(value), b: UInt64(poll)), source, stream: stream)
  }

  mutating func head(at time: UInt64, qid: UInt16 = 1, _ value: UInt32, _ source: Source = .engine, stream: Int = 0) {
    add(
      Events.Event.Doorbell(time: time, flags: .completionHead, qid: qid, value: value).record, source, stream: stream)
  }

  mutating func fetch(
    at time: UInt64, span: UInt32 = 0, qid: UInt16 = 1, cid: UInt16, slot: UInt32, opcode: UInt8 = 2, cdw10: UInt32 = 0,
    stream: Int = 0
  ) {
    var sqe = [UInt8](repeating: 0, count: 64)
    sqe[0] = opcode
    for byte in 0..<4 { sqe[40 + byte] = UInt8(truncatingIfNeeded: cdw10 >> UInt32(8 * byte)) }
    add(
      Record(time: time, kind: .fetch, qid: qid, cid: cid, tail: 2, a: UInt64(slot), b: UInt64(span)), stream: stream,
      tail: sqe)
  }

  mutating func completion(
    at time: UInt64, qid: UInt16 = 1, cid: UInt16, phase: Bool = true, _ source: Source = .engine, stream: Int = 0
  ) {
    let dw3 = UInt32(cid) | (phase ? 1 << 16 : 0)
    add(
      Record(time: time, kind: .completion, qid: qid, cid: cid, b: Record.pair(UInt32(qid) << 16, dw3)), source,
      stream: stream)
  }

  /// The host writes a register of eight bytes by halves, as most do.
  mutating func write(at time: UInt64, _ register: UInt64, _ value: UInt64) {
    add(Record(time: time, kind: .registerWrite, flags: 4, a: register, b: value & 0xffff_ffff))
    add(Record(time: time, kind: .registerWrite, flags: 4, a: register + 4, b: value >> 32))
  }

  mutating func interrupt(at time: UInt64, qid: UInt16 = 1, entries: UInt32 = 1) {
    add(Record(time: time, kind: .interrupt, qid: qid, b: UInt64(entries)))
  }
}

/// How long each part of one command's way takes, in nanoseconds.
struct Way {
  var qid: UInt16 = 1
  var cid: UInt16 = 0
  /// Entry of the submission queue, and of the completion queue.
  var slot: UInt32 = 0
  var opcode: UInt8 = IOOpcode.read.rawValue
  var hasHost = true
  var phase = true

  var submit: UInt64 = 30
  /// Doorbell written → seen.
  var unseen: UInt64 = 100
  /// Doorbell seen → fetch begins.
  var turn: UInt64 = 20
  var fetch: UInt64 = 60
  var dispatch: UInt64 = 10
  var map: UInt64 = 40
  var dataIn: UInt64 = 0
  var execute: UInt64 = 900
  var dataOut: UInt64 = 300
  /// The recorder's digest of the data to the host.
  var digest: UInt64 = 0
  var complete: UInt64 = 25
  /// Nil: none is raised.
  var interrupt: UInt64? = 15
  /// → host sees the entry → host writes its doorbell → engine sees it.
  var seen: UInt64 = 150
  var reap: UInt64 = 50
  var headUnseen: UInt64 = 80
  /// Not in any stage: after map, and between execute and data-out.
  var afterMap: UInt64 = 0
  var afterExecute: UInt64 = 0

  /// Put the command's events down; its doorbell is written at `time`.
  /// - Returns: the time of its last event.
  @discardableResult
  func play(at time: UInt64, into script: inout Script) -> UInt64 {
    var now = time
    if hasHost {
      script.submit(at: now - submit, qid: qid, cid: cid, opcode: opcode)
      script.tail(at: now, qid: qid, slot + 1, .host)
    }
    now += unseen
    script.tail(at: now, qid: qid, slot + 1, poll: UInt32(unseen))
    now += turn + fetch
    script.fetch(at: now, span: UInt32(fetch), qid: qid, cid: cid, slot: slot, opcode: opcode)
    now += dispatch + map
    script.add(Record(time: now, kind: .map, qid: qid, cid: cid, a: Record.pair(1, 4096), b: map))
    now += afterMap
    if dataIn > 0 { now = segments(at: now, dataIn, Event.Segment.Flags.fromHost.rawValue, &script) }
    script.add(Record(time: now, kind: .executeBegin, flags: opcode, qid: qid, cid: cid))
    now += execute
    script.add(Record(time: now, kind: .executeEnd, qid: qid, cid: cid))
    now += afterExecute
    if dataOut > 0 { now = segments(at: now, dataOut, 0, &script) }
    if digest > 0 {
      now += digest
      script.add(Event.Payload(time: now, qid: qid, cid: cid, length: 4096, span: UInt32(digest)).record)
    }
    now += complete
    script.completion(at: now, qid: qid, cid: cid, phase: phase)
    if let interrupt {
      now += interrupt
      script.interrupt(at: now, qid: qid)
    }
    now += seen
    if hasHost { script.completion(at: now, qid: qid, cid: cid, phase: phase, .host) }
    now += reap
    if hasHost { script.head(at: now, qid: qid, slot + 1, .host) }
    now += headUnseen
    script.head(at: now, qid: qid, slot + 1)
    return now
  }

  /// Two segments, with a pause between them that is the stage's all the same.
  private func segments(at begin: UInt64, _ time: UInt64, _ flags: UInt8, _ script: inout Script) -> UInt64 {
    for (end, span) in [(begin + time / 3, time / 3), (begin + time, time / 3)] {
      script.add(
        Record(
          time: end, kind: .segment, flags: flags, qid: qid, cid: cid, b: Record.pair(2048, UInt32(span))))
    }
    return begin + time
  }
}
