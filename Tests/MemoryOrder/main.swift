import CPlatform
@_spi(Places) import Events
import Glibc
import Platform
import Synchronization
import Trace

/// Two threads pass values through a ring, and through a queue with a doorbell and phase tags, as fast as they can, and
/// check everything that arrives: `memory-order [ROUNDS] [--counters-differ]`. A missing barrier shows as an old value, on
/// a machine that reorders. Cycle counters must agree, too: no value arrives before it was sent.

/// What one side has seen.
struct Observation {
  var wrong = 0
  /// Values stamped after their arrival, by the counter, and by how many ticks at most.
  var early = 0
  var earlyTicksMax: UInt64 = 0
  /// A thread's own stamps that went back.
  var backward = 0
  private var last: UInt64 = 0

  mutating func saw(sent: UInt64, arrived: UInt64) {
    if arrived < sent {
      early += 1
      earlyTicksMax = max(earlyTicksMax, sent - arrived)
    }
    if arrived < last { backward += 1 }
    last = arrived
  }

  mutating func check(_ isRight: Bool) { if !isRight { wrong += 1 } }

  /// - Returns: whether nothing is wrong.
  func tell(_ name: String, of rounds: UInt64, countersDiffer: Bool) -> Bool {
    print(
      "\(name): \(rounds) values, \(wrong) wrong, \(backward) stamps went back, \(early) arrived before they were sent"
        + (early > 0 ? " (by \(earlyTicksMax) ticks at most)" : ""))
    return wrong == 0 && (countersDiffer || early == 0 && backward == 0)
  }
}

/// A value that is recognised wherever it was read half old and half new: all of its words are made from one number.
typealias Entry = SIMD8<UInt64>

func entry(_ number: UInt64) -> Entry { Entry(repeating: number) ^ Entry(0, 1, 2, 3, 4, 5, 6, 7) }

/// The ring of a recording, so small that both sides meet in it all the time.
func throughRing(_ rounds: UInt64) throws -> Observation {
  let id = TraceID.random()
  let directory = try RecordingDirectory(creating: id, tracePath: "memory-order.nvpt", ringBytes: 1 << 20)
  defer { directory.remove() }
  let ring = try Ring(
    creating: "\(directory.path)/order.ring", capacity: 128, source: .host, stream: 0, traceID: id)
  let producing = try WorkerThread(name: "producer") {
    var producer = RingProducer(ring, whenFull: .waitSilently)
    for number in 0..<rounds {
      let record = Record(
        time: Clock.ticks(), kind: .registerWrite, qid: UInt16(truncatingIfNeeded: number), a: number, b: ~number)
      if number % 2 == 0 { producer.append(record) } else { producer.append(record, entry: entry(number)) }
    }
  }
  var consumer = RingConsumer(ring)
  var seen = Observation()
  var number: UInt64 = 0
  while number < rounds {
    let slots = try consumer.available()
    var place = 0
    while place < slots.count {
      let record = slots[place]
      seen.saw(sent: record.time, arrived: Clock.ticksAfterLoads())
      seen.check(record.a == number && record.b == ~number && record.qid == UInt16(truncatingIfNeeded: number))
      if record.tail > 0 {
        let tail = UnsafeRawPointer(slots.baseAddress! + place + 1).loadUnaligned(as: Entry.self)
        seen.check(tail == entry(number))
      }
      place += 1 + Int(record.tail)
      number += 1
    }
    consumer.free(slots.count)
    if slots.isEmpty { sched_yield() }
  }
  producing.join()
  return seen
}

/// Memory that a host and a device share: a submission queue with its tail doorbell, a completion queue with phase tags.
struct Shared: @unchecked Sendable {
  static let entries: UInt64 = 8
  let sqes = UnsafeMutablePointer<Entry>.allocate(capacity: Int(entries))
  let doorbell = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: 1)
  /// By entry: sent, number, its inverse; then number and phase.
  let cqes = UnsafeMutablePointer<(UInt64, UInt64, UInt64)>.allocate(capacity: Int(entries))
  let phases = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: Int(entries))

  init() {
    doorbell.initialize(to: Atomic(0))
    sqes.initialize(repeating: Entry(), count: Int(Shared.entries))
    cqes.initialize(repeating: (0, 0, 0), count: Int(Shared.entries))
    for place in 0..<Int(Shared.entries) { (phases + place).initialize(to: Atomic(0)) }
  }
}

/// The orders of QueuePair and LivePort: the doorbell and the phase tag are stored with release and loaded with acquire.
func throughQueue(_ rounds: UInt64) throws -> Observation {
  let shared = Shared()
  let device = Mutex(Observation())
  let serving = try WorkerThread(name: "device") {
    var seen = Observation()
    var number: UInt64 = 0
    while number < rounds {
      let tail = shared.doorbell.pointee.load(ordering: .acquiring)
      if tail == UInt32(truncatingIfNeeded: number) {
        sched_yield()
        continue
      }
      let arrived = Clock.ticksAfterLoads()
      let place = Int(number % Shared.entries)
      let sqe = shared.sqes[place]
      seen.saw(sent: sqe[0], arrived: arrived)
      var wanted = entry(number)
      wanted[0] = sqe[0]
      seen.check(sqe == wanted)
      shared.cqes[place] = (Clock.ticks(), number, ~number)
      shared.phases[place].store(UInt32(truncatingIfNeeded: number / Shared.entries + 1), ordering: .releasing)
      number += 1
    }
    device.withLock { $0 = seen }
  }
  var seen = Observation()
  var (submitted, reaped): (UInt64, UInt64) = (0, 0)
  while reaped < rounds {
    while submitted < rounds, submitted - reaped < Shared.entries {
      var sqe = entry(submitted)
      sqe[0] = Clock.ticks()
      shared.sqes[Int(submitted % Shared.entries)] = sqe
      submitted += 1
      shared.doorbell.pointee.store(UInt32(truncatingIfNeeded: submitted), ordering: .releasing)
    }
    let place = Int(reaped % Shared.entries)
    let phase = UInt32(truncatingIfNeeded: reaped / Shared.entries + 1)
    guard shared.phases[place].load(ordering: .acquiring) == phase else {
      sched_yield()
      continue
    }
    let arrived = Clock.ticksAfterLoads()
    let (sent, number, inverse) = shared.cqes[place]
    seen.saw(sent: sent, arrived: arrived)
    seen.check(number == reaped && inverse == ~reaped)
    reaped += 1
  }
  serving.join()
  let other = device.withLock { $0 }
  seen.wrong += other.wrong
  seen.early += other.early
  seen.earlyTicksMax = max(seen.earlyTicksMax, other.earlyTicksMax)
  seen.backward += other.backward
  return seen
}

let arguments = CommandLine.arguments.dropFirst()
let countersDiffer = arguments.contains("--counters-differ")
guard let rounds = UInt64(arguments.first { !$0.hasPrefix("--") } ?? "1000000"), rounds < 1 << 31 else {
  print("usage: memory-order [ROUNDS] [--counters-differ]")
  exit(2)
}
do {
  let ring = try throughRing(rounds).tell("ring", of: rounds, countersDiffer: countersDiffer)
  let queue = try throughQueue(rounds).tell("queue", of: rounds, countersDiffer: countersDiffer)
  exit(ring && queue ? 0 : 1)
} catch {
  print(error)
  exit(1)
}
