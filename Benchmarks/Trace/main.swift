import CPlatform
import Chance
@_spi(Places) import Events
import Glibc
import Trace

/// Writes synthetic commands through rings into a trace and reads them back: bytes and nanoseconds an event.
///
///     swift run -c release trace-benchmark [commands] [queue depth]

extension SeededGenerator {
  /// The sum of three, so that values cluster, and once in 4096 something long: some `bits` bits of entropy.
  mutating func jitter(_ bits: UInt64) -> UInt64 {
    let mask = (UInt64(1) << bits) - 1
    let word = next()
    return ((word & mask) + (word >> 16 & mask) + (word >> 32 & mask)) / 2 + (word >> 52 == 0 ? word >> 40 & 0xfff : 0)
  }
}

/// 4 KiB random reads over 1 GiB as engine and host would record them.
struct Workload: ~Copyable {
  var random = SeededGenerator(seed: 1)
  var engine: RingProducer
  var host: RingProducer
  let depth: Int
  var ticks: UInt64 = 1_000_000
  var tail: UInt32 = 0
  var head: UInt32 = 0
  var cid: UInt16 = 0
  var slotsSinceCheckpoint: UInt64 = .max
  let entries: UInt32 = 1024
  var sqe: SIMD16<UInt32> = .zero

  init(engine: consuming RingProducer, host: consuming RingProducer, depth: Int) {
    self.engine = engine
    self.host = host
    self.depth = depth
  }

  mutating func step(_ base: UInt64) -> UInt64 {
    ticks += base + random.jitter(7)
    return ticks
  }

  mutating func round() {
    let state = [UInt8](repeating: 1, count: 2000)
    if slotsSinceCheckpoint > engine.ring.capacity / 4 {
      state.withUnsafeBytes {
        engine.append(
          Record(time: ticks, kind: .checkpoint, flags: Record.carriesBytesFlag, b: UInt64($0.count)), $0)
      }
      slotsSinceCheckpoint = 0
    }
    let begin = engine.position
    let first = cid
    for _ in 0..<depth {
      host.append(Record(time: step(30), kind: .submit, flags: 2, qid: 1, cid: cid))
      cid = (cid + 1) % 1024
      tail = (tail + 1) % entries
    }
    let doorbell = Record(time: step(30), kind: .doorbell, qid: 1, a: UInt64(tail), b: 0)
    host.append(doorbell)
    let poll = UInt32(truncatingIfNeeded: random.jitter(7)) + 40
    engine.append(Record(time: step(100), kind: .doorbell, qid: 1, a: UInt64(tail), b: UInt64(poll)))
    var completions: [(UInt32, UInt32)] = []
    for index in 0..<depth {
      let cid = (first + UInt16(index)) % 1024
      let slot = (head + UInt32(index)) % entries
      let page = random.next()
      let prp1 = 0x1_0000_0000 + UInt64(cid % UInt16(depth)) * 4096
      let slba = (page >> 46) * 8
      sqe[0] = 2 | UInt32(cid) << 16
      sqe[1] = 1
      sqe[6] = UInt32(truncatingIfNeeded: prp1)
      sqe[7] = UInt32(prp1 >> 32)
      sqe[10] = UInt32(truncatingIfNeeded: slba)
      sqe[12] = 7
      let before = ticks
      var now = step(60)
      engine.append(
        Record(time: now, kind: .fetch, qid: 1, cid: cid, a: UInt64(slot), b: now - before), entry: sqe)
      let fetched = now
      now = step(20)
      engine.append(
        Record(
          time: now, kind: .map, qid: 1, cid: cid, a: Record.pair(1, 4096), b: now - fetched))
      engine.append(
        Record(time: now, kind: .executeBegin, flags: 2, qid: 1, cid: cid, a: slba, b: Record.pair(8, 1)))
      let executed = now
      now = step(150)
      engine.append(
        Record(
          time: now, kind: .segment, qid: 1, cid: cid, a: prp1, b: Record.pair(4096, UInt32(now - executed))))
      engine.append(Record(time: now, kind: .executeEnd, qid: 1, cid: cid))
      now = step(20)
      let sqhd = (slot + 1) % entries
      let dw2 = sqhd | 1 << 16
      let dw3 = UInt32(cid) | (UInt32(engineCompletions / UInt64(entries)) & 1 ^ 1) << 16
      engineCompletions += 1
      engine.append(Record(time: now, kind: .completion, qid: 1, cid: cid, a: 0, b: Record.pair(dw2, dw3)))
      completions.append((dw2, dw3))
    }
    head = tail
    for (dw2, dw3) in completions {
      host.append(
        Record(
          time: step(60), kind: .completion, qid: 1, cid: UInt16(truncatingIfNeeded: dw3), b: Record.pair(dw2, dw3)))
    }
    let cqHead = UInt64(engineCompletions % UInt64(entries))
    host.append(
      Record(time: step(20), kind: .doorbell, flags: Event.Doorbell.Flags.completionHead.rawValue, qid: 1, a: cqHead))
    engine.append(
      Record(
        time: step(100), kind: .doorbell, flags: Event.Doorbell.Flags.completionHead.rawValue, qid: 1, a: cqHead,
        b: random.jitter(7) + 40))
    slotsSinceCheckpoint += engine.position - begin
  }

  var engineCompletions: UInt64 = 0
}

extension RecordingDirectory {
  func makeRing(_ source: Source, capacity: UInt64) throws(TraceError) -> Ring {
    try Ring(creating: "\(path)/\(source).ring", capacity: capacity, source: source, stream: 0, traceID: id)
  }
}

func nanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

func run() throws(TraceError) {
  let arguments = CommandLine.arguments
  let commands = arguments.count > 1 ? Int(arguments[1]) ?? 2_000_000 : 2_000_000
  let depth = arguments.count > 2 ? Int(arguments[2]) ?? 1 : 1
  let capacity = UInt64(arguments.count > 3 ? Int(arguments[3]) ?? 1 << 17 : 1 << 17)
  let path = "/tmp/trace-benchmark.nvpt"
  let id = TraceID.random()
  let directory = try RecordingDirectory(creating: id, tracePath: path, ringBytes: 1 << 28)
  let writer = try TraceWriter(
    path: path, id: id, scale: TickScale(start: 0, multiplier: 1_789_569_707), directory: directory)
  var workload = Workload(
    engine: RingProducer(try directory.makeRing(.engine, capacity: capacity), whenFull: .drop),
    host: RingProducer(try directory.makeRing(.host, capacity: capacity), whenFull: .drop), depth: depth)
  var spent: UInt64 = 0
  var done = 0
  writer.drain()
  while done < commands {
    for _ in 0..<max(1, 1024 / depth) {
      workload.round()
      done += depth
    }
    let before = nanoseconds()
    writer.drain()
    spent += nanoseconds() - before
  }
  let before = nanoseconds()
  let summary = writer.finish()
  spent += nanoseconds() - before
  let events = Double(summary.events)
  print(
    "QD \(depth): \(summary.commands) commands, \(summary.events) events, \(summary.chunks) chunks, lost \(summary.lost)"
  )
  print(
    "  bytes: \(Double(summary.bytes) / events) an event, \(Double(summary.bytes) / Double(summary.commands)) a command"
  )
  print("  writer: \(Double(spent) / events) ns an event, \(Double(spent) / Double(summary.commands)) ns a command")

  let reader = try TraceReader(path: path)
  let start = nanoseconds()
  var merged = try MergedEvents(reader)
  var (count, sum) = (UInt64(0), UInt64(0))
  while let event = try merged.next() {
    count += 1
    sum &+= event.record.pointee.time
  }
  print("  reader: \(Double(nanoseconds() - start) / Double(count)) ns an event, merged (\(sum % 1000))")
  let entropy = try columnEntropyBytes(reader)
  print(
    "  entropy of the columns: \(entropy / Double(summary.commands)) bytes a command; the file is \(Double(summary.bytes) / entropy) times that"
  )
}

do {
  try run()
} catch {
  print(error)
  exit(1)
}
