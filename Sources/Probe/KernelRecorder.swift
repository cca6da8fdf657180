import CBPF
import Events
import Glibc
import Platform
import Synchronization
import Trace

/// Takes the events of probes out of their ring buffers and into rings of a recording: a stream for each CPU and each
/// controller or driver instance that it had to do with.
public final class KernelRecorder: @unchecked Sendable {
  public let probes: Probes
  /// Events taken so far; events that are missing, and of them those that a CPU had no room for.
  public var events: UInt64 { taken.load(ordering: .relaxed) }
  public var lost: UInt64 { missed.load(ordering: .relaxed) }
  public var overrun: UInt64 { withoutRoom.load(ordering: .relaxed) }
  /// The most by which the kernel's times were off the recording's, nanoseconds.
  public var clockErrorNs: UInt64 { clockError.load(ordering: .relaxed) }
  /// Why there was no stream for some events, which are counted as lost, or nothing of what was asked for; to be asked
  /// after `stop`.
  public private(set) var problem: String?

  private let directory: String
  private let traceID: TraceID
  private let subsystem: String?
  private let slots: UInt64
  private let taken = Atomic<UInt64>(0)
  private let missed = Atomic<UInt64>(0)
  private let withoutRoom = Atomic<UInt64>(0)
  private let clockError = Atomic<UInt64>(0)
  private let stopping = Atomic<Bool>(false)
  private var thread: WorkerThread?

  // The thread's.
  private var clock: KernelClock
  /// Before every event: the time of the streams' first records.
  private let begin: UInt64
  private var cpus: [CPU] = []
  private var reader: OpaquePointer?
  private var streams: [StreamKey: Stream] = [:]
  /// Where the clocks are recorded.
  private var clocks: Stream?
  private var streamsMade: UInt16 = 0
  private var sawSubsystem = false
  private var skipped: [Origin.Role: UInt64]
  private var looked: UInt64
  private var snapshotted: UInt64 = 0
  /// Events since `looked` for which there is no stream, and whether none could be made.
  private var unkept: UInt64 = 0
  private var isFull = false

  /// A recording takes on 256 streams at a time; some are the engine's and its hosts'.
  private static let streamsMax = 240
  /// Nanoseconds between two looks at what was not run.
  private static let lookNs: UInt64 = 50_000_000

  private struct StreamKey: Hashable {
    let cpu: Int
    let origin: Origin
  }

  /// A ring of the recording.
  private final class Stream {
    var producer: RingProducer
    /// Of the last event: a stream's times never go back. An interrupt between two probes of a CPU could.
    var last: UInt64 = 0
    var isNamed = false
    /// Events until its name is looked for again.
    var patience = 0

    init(_ ring: Ring) { producer = RingProducer(ring, whenFull: .waitUnseen) }
  }

  private final class CPU {
    unowned let recorder: KernelRecorder
    let number: Int
    var lost: UInt64 = 0

    init(_ recorder: KernelRecorder, _ number: Int) { (self.recorder, self.number) = (recorder, number) }
  }

  /// What room the rings of a recording need, and how long each may be.
  public struct Budget: Sendable {
    /// Of each ring.
    public let slots: UInt64
    /// Of all rings, for four origins a CPU.
    public let bytes: UInt64

    private static let slotsRange: ClosedRange<UInt64> = 1 << 12...1 << 16
    private static let bytesMax: UInt64 = 256 << 20

    public init(cpus: Int = max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1)) {
      let streams = UInt64(min(4 * cpus, KernelRecorder.streamsMax))
      var slots = Budget.slotsRange.upperBound
      while slots > Budget.slotsRange.lowerBound, streams * slots * UInt64(Record.size) > Budget.bytesMax { slots /= 2 }
      self.slots = slots
      bytes = streams * (slots * UInt64(Record.size) + 4096)
    }
  }

  /// Begin to take events.
  ///
  /// - Parameters:
  ///   - directory: where the recording's rings lie.
  ///   - subsystem: the only NQN whose target's events are kept; nil for all.
  public init(
    _ probes: Probes, directory: String, traceID: TraceID, clock: KernelClock, subsystem: String? = nil
  ) throws(ProbeError) {
    (self.probes, self.directory, self.traceID, self.clock) = (probes, directory, traceID, clock)
    (self.subsystem, slots) = (subsystem, Budget().slots)
    // What was not run before is no part of the recording.
    skipped = probes.skipped()
    looked = TickSource.monotonic.now()
    begin = looked
    for (number, descriptor) in probes.ringDescriptors.enumerated() {
      let cpu = CPU(self, number)
      cpus.append(cpu)
      let context = Unmanaged.passUnretained(cpu).toOpaque()
      if let reader {
        guard ring_buffer__add(reader, descriptor, KernelRecorder.take, context) == 0 else {
          throw ProbeError("the ring buffer of CPU \(number) cannot be read: \(String(cString: strerror(errno)))")
        }
      } else {
        reader = ring_buffer__new(descriptor, KernelRecorder.take, context, nil)
        guard reader != nil else {
          throw ProbeError("the ring buffers cannot be read: \(String(cString: strerror(errno)))")
        }
      }
    }
    // Not before `begin`: a stream starts there, and would move older events to that one moment.
    try probes.start()
    do throws(SystemError) {
      // It ends before the recorder goes.
      thread = try WorkerThread(name: "nvmepf-kernel", handlesSignals: false) {
        [recorder = Unmanaged.passUnretained(self)] in recorder.takeUnretainedValue().run()
      }
    } catch { throw ProbeError("cannot start a thread for the probes' events: \(error)") }
  }

  deinit {
    stop()
    if let reader { ring_buffer__free(reader) }
  }

  /// Detach the probes, take what is left, and close the streams.
  public func stop() {
    guard let thread else { return }
    self.thread = nil
    stopping.store(true, ordering: .releasing)
    thread.join()
  }

  private func run() {
    while !stopping.load(ordering: .acquiring) {
      // A stream's times never go back. So a look comes before the events are taken and its gaps behind them: the other
      // way round, events from before the look would get its time.
      let seen = TickSource.monotonic.now() &- looked >= KernelRecorder.lookNs ? look() : nil
      // The probes wake nobody, which would cost them more than all else, so this thread polls.
      let count = ring_buffer__consume(reader)
      if let seen { place(seen) }
      let now = TickSource.monotonic.now()
      if now &- snapshotted >= 1_000_000_000 { snapshot(now) }
      if count > 0 { continue }
      Patience.sleep(ns: 500_000)
    }
    // What half of the probes see is no part of the recording.
    probes.pause()
    probes.detach()
    ring_buffer__consume(reader)
    let seen = look()
    place(seen)
    snapshot(seen.time)
    finish()
  }

  // MARK: What is missing

  /// What was missing at a moment.
  private struct Look {
    /// How often probes had not run since the recording began.
    let skipped: [Origin.Role: UInt64]
    /// Events without a stream since the look before.
    let unkept: UInt64
    /// The look before, and this one.
    let since: UInt64
    let time: UInt64
  }

  private func look() -> Look {
    let skipped = probes.skipped()
    let seen = Look(skipped: skipped, unkept: unkept, since: looked, time: TickSource.monotonic.now())
    unkept = 0
    looked = seen.time
    return seen
  }

  /// Record what a look found missing, on no CPU in particular: probes that did not run, and events without a stream.
  private func place(_ seen: Look) {
    for (role, count) in seen.skipped.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      let more = count &- skipped[role, default: 0]
      guard more > 0 else { continue }
      skipped[role] = count
      missed.wrappingAdd(more, ordering: .relaxed)
      let own = streams.filter { $0.key.origin.role == role }
      let stream = (own.isEmpty ? streams : own).first?.value
      gap(more, flags: .notRun, since: seen.since, at: seen.time, in: stream)
    }
    if seen.unkept > 0 {
      missed.wrappingAdd(seen.unkept, ordering: .relaxed)
      gap(seen.unkept, since: seen.since, at: seen.time, in: anyStream)
    }
    isFull = false
  }

  private func note(lost count: UInt64, of cpu: CPU, before time: UInt64, in stream: Stream?) {
    cpu.lost &+= count
    missed.wrappingAdd(count, ordering: .relaxed)
    withoutRoom.wrappingAdd(count, ordering: .relaxed)
    gap(count, at: time, in: stream)
  }

  /// Whoever reads a gap heeds it for all of the kernel, so that it stands in one stream only.
  private func gap(
    _ count: UInt64, flags: Event.Gap.Flags = [], since: UInt64? = nil, at time: UInt64, in stream: Stream?
  ) {
    guard let stream = stream ?? self.stream(0, .nobody) else { return }
    let span = since.map { clock.ticks(at: time) &- clock.ticks(at: $0) } ?? 0
    append(Event.Gap(flags: flags, events: count, since: UInt32(clamping: span)).record, at: time, to: stream)
  }

  private var anyStream: Stream? { streams.min { ($0.key.cpu, $0.value.last) < ($1.key.cpu, $1.value.last) }?.value }

  // MARK: Clocks

  /// Record the clocks together, once a second, in a stream without events: probes may be about to commit events from
  /// before this moment, and behind it they would get its time.
  private func snapshot(_ now: UInt64) {
    guard !streams.isEmpty else { return }
    if clocks == nil {
      clocks = makeRing().map(Stream.init)
      if let clocks { introduce(clocks, StreamKey(cpu: 0, origin: .nobody)) }
    }
    guard let clocks else { return }
    snapshotted = now
    let error = clock.correct()
    clockError.store(max(clockErrorNs, error), ordering: .relaxed)
    let snapshot = ClockSnapshot.now(clock.source)
    clocks.last = max(clocks.last, snapshot.ticks)
    let event = Event.Clock(
      time: clocks.last, monotonic: snapshot.monotonic, realtime: snapshot.realtime, residual: UInt16(clamping: error))
    clocks.producer.append(event.record)
  }

  // MARK: Events

  /// What was lost at the very end, and what the probes cost.
  private func finish() {
    if let subsystem, !sawSubsystem {
      problem = problem ?? "no controller of the subsystem \(subsystem) has done anything: is it called so?"
    }
    let now = TickSource.monotonic.now()
    for (cpu, count) in zip(cpus, probes.lost()) where count > cpu.lost {
      let stream = streams.first { $0.key.cpu == cpu.number }?.value
      note(lost: count &- cpu.lost, of: cpu, before: now, in: stream ?? self.stream(cpu.number, .nobody))
    }
    if let stream = anyStream {
      for cost in probes.costs() {
        let name = Array(cost.name.utf8)
        let probe = Event.Probe(
          flags: .bytes, runs: cost.runs, length: UInt32(name.count),
          mean: UInt32(clamping: cost.ns / max(cost.runs, 1)))
        name.withUnsafeBytes { append(probe.record, $0, at: now, to: stream) }
      }
    }
    streams = [:]
    clocks = nil
  }

  private static let take: ring_buffer_sample_fn = { context, data, size in
    let cpu = Unmanaged<CPU>.fromOpaque(context!).takeUnretainedValue()
    cpu.recorder.take(UnsafeRawBufferPointer(start: data, count: Int(size)), cpu)
    return 0
  }

  private func take(_ raw: UnsafeRawBufferPointer, _ cpu: CPU) {
    guard let event = RawEvent(raw), isWanted(event.origin, on: cpu) else { return }
    guard let stream = stream(cpu.number, event.origin) else {
      unkept += 1
      return
    }
    if event.lost > cpu.lost { note(lost: event.lost &- cpu.lost, of: cpu, before: event.time, in: stream) }
    append(event.record, event.bytes, at: event.time, to: stream)
    taken.wrappingAdd(1, ordering: .relaxed)
  }

  /// Is it of the subsystem that is asked for? Once it has a stream, it is.
  private func isWanted(_ origin: Origin, on cpu: CPU) -> Bool {
    guard let subsystem, origin.role == .target, streams[StreamKey(cpu: cpu.number, origin: origin)] == nil else {
      return true
    }
    guard probes.name(of: origin)?.nqn == subsystem else { return false }
    sawSubsystem = true
    return true
  }

  private func append(
    _ record: Record, _ bytes: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0), at time: UInt64,
    to stream: Stream
  ) {
    var record = record
    stream.last = max(stream.last, clock.ticks(at: time))
    record.time = stream.last
    if bytes.isEmpty { stream.producer.append(record) } else { stream.producer.append(record, bytes) }
  }

  // MARK: Streams

  /// The stream of a CPU and an origin; nil where there is no room for one more.
  private func stream(_ cpu: Int, _ origin: Origin) -> Stream? {
    let key = StreamKey(cpu: cpu, origin: origin)
    if let stream = streams[key] {
      if !stream.isNamed { introduce(stream, key) }
      return stream
    }
    // Not tried again for every event.
    guard !isFull else { return nil }
    closeFormer(key)
    guard let ring = makeRing() else {
      isFull = true
      return nil
    }
    let stream = Stream(ring)
    streams[key] = stream
    introduce(stream, key)
    return stream
  }

  private func makeRing() -> Ring? {
    guard streams.count < KernelRecorder.streamsMax, streamsMade < .max else {
      problem = problem ?? "at most \(KernelRecorder.streamsMax) CPUs times controllers are recorded at a time"
      return nil
    }
    do throws(TraceError) {
      let ring = try Ring(
        creating: "\(directory)/kernel-\(streamsMade).ring", capacity: slots, source: .kernel, stream: streamsMade,
        traceID: traceID)
      streamsMade += 1
      return ring
    } catch {
      problem = problem ?? error.description
      return nil
    }
  }

  /// Whoever had the number of this controller before emits nothing any more.
  private func closeFormer(_ key: StreamKey) {
    for other in streams.keys where other.cpu == key.cpu && other.origin.role == key.origin.role {
      if other.origin.controller == key.origin.controller { streams[other] = nil }
    }
  }

  /// Say whose events the stream has: at its begin, and once more when a host's driver has learnt whom it drives.
  private func introduce(_ stream: Stream, _ key: StreamKey) {
    stream.patience -= 1
    guard stream.patience < 0 else { return }
    let isFirst = stream.last == 0
    stream.patience = 64
    let name = probes.name(of: key.origin)
    guard isFirst || name != nil else { return }
    stream.isNamed = name != nil || key.origin.controller == Origin.noController
    let nqn = Array((name?.nqn ?? "").utf8)
    var event = Event.Origin(
      flags: nqn.isEmpty ? [] : .bytes, cpu: UInt16(key.cpu), controller: key.origin.controller,
      length: UInt32(nqn.count))
    if key.origin.role == .host {
      event.flags.insert(.host)
      event.cntlid = UInt32(name?.cntlid ?? 0)
    }
    nqn.withUnsafeBytes { append(event.record, $0, at: begin, to: stream) }
  }
}

extension Origin {
  fileprivate static let nobody = Origin(role: .target, controller: noController)
}
