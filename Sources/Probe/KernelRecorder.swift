import CBPF
import Events
import Glibc
import Platform
import Synchronization
import Trace

/// Moves the events of probes from their ring buffers to the rings of a recording: one stream per CPU and controller or
/// driver instance.
public final class KernelRecorder: @unchecked Sendable {
  public let probes: Probes
  /// Events recorded so far.
  public var events: UInt64 { recorded.load(ordering: .relaxed) }
  /// Lost events.
  public var lost: UInt64 { lostCount.load(ordering: .relaxed) }
  /// Events lost because the ring buffer of their CPU was full; part of `lost`.
  public var lostToFullBuffers: UInt64 { lostToFullBuffersCount.load(ordering: .relaxed) }
  /// Largest error of the kernel's times against the recording's clock, nanoseconds.
  public var clockErrorNs: UInt64 { clockError.load(ordering: .relaxed) }
  /// Why some events had no stream and were lost, or why the requested subsystem has no events; valid after `stop`.
  public private(set) var problem: String?

  private let directory: String
  private let traceID: TraceID
  private let subsystem: String?
  private let slots: UInt64
  private let recorded = Atomic<UInt64>(0)
  private let lostCount = Atomic<UInt64>(0)
  private let lostToFullBuffersCount = Atomic<UInt64>(0)
  private let clockError = Atomic<UInt64>(0)
  private let stopping = Atomic<Bool>(false)
  private var thread: WorkerThread?

  // Owned by the thread.
  private var clock: KernelClock
  /// Time of the first record of every stream, before all events.
  private let begin: UInt64
  private var cpus: [CPU] = []
  private var reader: OpaquePointer?
  private var streams: [StreamKey: Stream] = [:]
  /// The stream of the clock samples.
  private var clocks: Stream?
  private var streamsMade: UInt16 = 0
  private var sawSubsystem = false
  private var notRun: [Origin.Role: UInt64]
  private var sampled: UInt64
  private var snapshotted: UInt64 = 0
  /// Events since `sampled` that no stream could be created for.
  private var withoutStream: UInt64 = 0
  private var isFull = false

  /// A recording supports 256 streams at a time; the engine and its hosts need some.
  private static let streamsMax = 240
  /// Nanoseconds between two samples of the probes that were not run.
  private static let sampleNs: UInt64 = 50_000_000

  private struct StreamKey: Hashable {
    let cpu: Int
    let origin: Origin
  }

  /// A ring of the recording.
  private final class Stream {
    var producer: RingProducer
    /// Time of the last event. Times of a stream never go back, though an interrupt between two probes of a CPU could
    /// reorder them.
    var last: UInt64 = 0
    var isNamed = false
    /// Events until the next attempt to find its name.
    var eventsUntilRetry = 0

    init(_ ring: Ring) { producer = RingProducer(ring, whenFull: .waitSilently) }
  }

  private final class CPU {
    unowned let recorder: KernelRecorder
    let number: Int
    var lost: UInt64 = 0

    init(_ recorder: KernelRecorder, _ number: Int) { (self.recorder, self.number) = (recorder, number) }
  }

  /// Sizes of the rings of a recording.
  public struct Budget: Sendable {
    /// Slots of each ring.
    public let slots: UInt64
    /// Bytes of all rings, for four origins per CPU.
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

  /// Start moving events.
  ///
  /// - Parameters:
  ///   - directory: directory of the recording's rings.
  ///   - subsystem: NQN of the only target to record; nil for all.
  public init(
    _ probes: Probes, directory: String, traceID: TraceID, clock: KernelClock, subsystem: String? = nil
  ) throws(ProbeError) {
    (self.probes, self.directory, self.traceID, self.clock) = (probes, directory, traceID, clock)
    (self.subsystem, slots) = (subsystem, Budget().slots)
    // Probes not run earlier do not concern this recording.
    notRun = probes.notRun()
    sampled = TickSource.monotonic.now()
    begin = sampled
    for (number, descriptor) in probes.ringDescriptors.enumerated() {
      let cpu = CPU(self, number)
      cpus.append(cpu)
      let context = Unmanaged.passUnretained(cpu).toOpaque()
      if let reader {
        guard ring_buffer__add(reader, descriptor, KernelRecorder.ingest, context) == 0 else {
          throw ProbeError("the ring buffer of CPU \(number) cannot be read: \(String(cString: strerror(errno)))")
        }
      } else {
        reader = ring_buffer__new(descriptor, KernelRecorder.ingest, context, nil)
        guard reader != nil else {
          throw ProbeError("the ring buffers cannot be read: \(String(cString: strerror(errno)))")
        }
      }
    }
    // After `begin`, where streams start: older events would all get that one time.
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

  /// Detach the probes, move the remaining events, and close the streams.
  public func stop() {
    guard let thread else { return }
    self.thread = nil
    stopping.store(true, ordering: .releasing)
    thread.join()
  }

  private func run() {
    while !stopping.load(ordering: .acquiring) {
      // Times of a stream never go back. So losses are sampled before the events are moved, and recorded after them;
      // otherwise events from before the sample would get its time.
      let sample = TickSource.monotonic.now() &- sampled >= KernelRecorder.sampleNs ? sampleLosses() : nil
      // The probes wake nobody, which would cost them more than all else, so this thread polls.
      let count = ring_buffer__consume(reader)
      if let sample { recordLosses(sample) }
      let now = TickSource.monotonic.now()
      if now &- snapshotted >= 1_000_000_000 { snapshot(now) }
      if count > 0 { continue }
      Backoff.sleep(ns: 500_000)
    }
    // Events of a partially detached set of probes do not belong to the recording.
    probes.pause()
    probes.detach()
    ring_buffer__consume(reader)
    let sample = sampleLosses()
    recordLosses(sample)
    snapshot(sample.time)
    finish()
  }

  // MARK: Lost events

  /// Losses at one moment.
  private struct LossSample {
    /// How often probes were not run since they were attached.
    let notRun: [Origin.Role: UInt64]
    /// Events without a stream since the previous sample.
    let withoutStream: UInt64
    /// Times of the previous sample and of this one.
    let since: UInt64
    let time: UInt64
  }

  private func sampleLosses() -> LossSample {
    let notRun = probes.notRun()
    let sample = LossSample(
      notRun: notRun, withoutStream: withoutStream, since: sampled, time: TickSource.monotonic.now())
    withoutStream = 0
    sampled = sample.time
    return sample
  }

  /// Record the losses that belong to no particular CPU: probes that were not run, and events without a stream.
  private func recordLosses(_ sample: LossSample) {
    for (role, count) in sample.notRun.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      let more = count &- notRun[role, default: 0]
      guard more > 0 else { continue }
      notRun[role] = count
      lostCount.wrappingAdd(more, ordering: .relaxed)
      let own = streams.filter { $0.key.origin.role == role }
      let stream = (own.isEmpty ? streams : own).first?.value
      gap(more, flags: .notRun, since: sample.since, at: sample.time, in: stream)
    }
    if sample.withoutStream > 0 {
      lostCount.wrappingAdd(sample.withoutStream, ordering: .relaxed)
      gap(sample.withoutStream, since: sample.since, at: sample.time, in: anyStream)
    }
    isFull = false
  }

  private func note(lost count: UInt64, of cpu: CPU, before time: UInt64, in stream: Stream?) {
    cpu.lost &+= count
    lostCount.wrappingAdd(count, ordering: .relaxed)
    lostToFullBuffersCount.wrappingAdd(count, ordering: .relaxed)
    gap(count, at: time, in: stream)
  }

  /// A reader applies a gap to all kernel streams, so one stream records it.
  private func gap(
    _ count: UInt64, flags: Event.Gap.Flags = [], since: UInt64? = nil, at time: UInt64, in stream: Stream?
  ) {
    guard let stream = stream ?? self.stream(0, .nobody) else { return }
    let span = since.map { clock.ticks(at: time) &- clock.ticks(at: $0) } ?? 0
    append(Event.Gap(flags: flags, events: count, since: UInt32(clamping: span)).record, at: time, to: stream)
  }

  private var anyStream: Stream? { streams.min { ($0.key.cpu, $0.value.last) < ($1.key.cpu, $1.value.last) }?.value }

  // MARK: Clocks

  /// Sample the clocks once a second, in a stream of their own: probes may still commit events from before this moment,
  /// and after it in the same stream they would get its time.
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

  /// Record the final losses and the costs of the probes.
  private func finish() {
    if let subsystem, !sawSubsystem {
      problem = problem ?? "no controller of the subsystem \(subsystem) was active; check the NQN"
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

  private static let ingest: ring_buffer_sample_fn = { context, data, size in
    let cpu = Unmanaged<CPU>.fromOpaque(context!).takeUnretainedValue()
    cpu.recorder.ingest(UnsafeRawBufferPointer(start: data, count: Int(size)), cpu)
    return 0
  }

  private func ingest(_ raw: UnsafeRawBufferPointer, _ cpu: CPU) {
    guard let event = RawEvent(raw), isWanted(event.origin, on: cpu) else { return }
    guard let stream = stream(cpu.number, event.origin) else {
      withoutStream += 1
      return
    }
    if event.lost > cpu.lost { note(lost: event.lost &- cpu.lost, of: cpu, before: event.time, in: stream) }
    append(event.record, event.bytes, at: event.time, to: stream)
    recorded.wrappingAdd(1, ordering: .relaxed)
  }

  /// Whether the event belongs to the requested subsystem; an origin with a stream does.
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

  /// The stream of a CPU and an origin; nil if no more can be created.
  private func stream(_ cpu: Int, _ origin: Origin) -> Stream? {
    let key = StreamKey(cpu: cpu, origin: origin)
    if let stream = streams[key] {
      if !stream.isNamed { introduce(stream, key) }
      return stream
    }
    // Retried only after the next sample, not for every event.
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
      problem = problem ?? "at most \(KernelRecorder.streamsMax) streams (CPUs × controllers) can be recorded at a time"
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

  /// The previous controller with this number emits no more events.
  private func closeFormer(_ key: StreamKey) {
    for other in streams.keys where other.cpu == key.cpu && other.origin.role == key.origin.role {
      if other.origin.controller == key.origin.controller { streams[other] = nil }
    }
  }

  /// Record the owner of a stream: at its beginning, and again when a host's driver has identified its controller.
  private func introduce(_ stream: Stream, _ key: StreamKey) {
    stream.eventsUntilRetry -= 1
    guard stream.eventsUntilRetry < 0 else { return }
    let isFirst = stream.last == 0
    stream.eventsUntilRetry = 64
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
