import CBPF
import Glibc
import Synchronization
import Trace

/// Takes the events of probes out of their ring buffers and into rings of a recording: a stream for each CPU and each
/// controller or driver instance that it had to do with.
public final class KernelRecorder: @unchecked Sendable {
  /// From CLOCK_MONOTONIC to the ticks of the recording, one straight line for all of it: so that what the kernel's
  /// clock put in order stays in order.
  public struct ClockLine: Sendable {
    let ns: UInt64
    let ticks: UInt64
    let ticksPerNs: Double

    /// The recording's ticks are CLOCK_MONOTONIC.
    public static let same = ClockLine(ns: 0, ticks: 0, ticksPerNs: 1)

    init(ns: UInt64, ticks: UInt64, ticksPerNs: Double) {
      (self.ns, self.ticks, self.ticksPerNs) = (ns, ticks, ticksPerNs)
    }

    /// To cycles of the counter, through this moment, at the rate that it was measured to have.
    public init(ticksPerSecond: UInt64) {
      // The closest of a few readings: an interrupt between two clocks would part them.
      var best: (width: UInt64, ticks: UInt64, ns: UInt64) = (.max, 0, 0)
      for _ in 0..<8 {
        let before = TickSource.cycles.now()
        let ns = TickSource.monotonic.now()
        let width = TickSource.cycles.now() &- before
        if width < best.width { best = (width, before &+ width / 2, ns) }
      }
      self.init(ns: best.ns, ticks: best.ticks, ticksPerNs: Double(ticksPerSecond) / 1e9)
    }

    func ticks(at time: UInt64) -> UInt64 {
      if ticksPerNs == 1 { return ticks &+ (time &- ns) }
      let since = Double(Int64(bitPattern: time &- ns)) * ticksPerNs
      return ticks &+ UInt64(bitPattern: Int64(max(min(since, 9e18), -9e18)))
    }
  }

  public let probes: Probes
  /// Events taken so far, and events that a CPU had no room for.
  public var events: UInt64 { taken.load(ordering: .relaxed) }
  public var lost: UInt64 { missed.load(ordering: .relaxed) }

  private let directory: String
  private let traceID: TraceID
  private let clock: ClockLine
  private let subsystem: String?
  private let slots: UInt64
  private let taken = Atomic<UInt64>(0)
  private let missed = Atomic<UInt64>(0)
  private let stopping = Atomic<Bool>(false)
  private var thread = pthread_t()
  private var hasThread = false

  // The thread's.
  private var cpus: [CPU] = []
  private var reader: OpaquePointer?
  private var streams: [StreamKey: Stream] = [:]
  private var skipped: [Origin.Role: UInt64] = [:]

  /// At most as many streams; what further controllers do is counted as lost.
  private static let streamsMax = 200

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

    init(_ ring: Ring) { producer = RingProducer(ring, whenFull: .wait) }
  }

  private final class CPU {
    unowned let recorder: KernelRecorder
    let number: Int
    var lost: UInt64 = 0

    init(_ recorder: KernelRecorder, _ number: Int) { (self.recorder, self.number) = (recorder, number) }
  }

  /// Begin to take events.
  ///
  /// - Parameters:
  ///   - directory: where the recording's rings lie.
  ///   - subsystem: the only NQN whose target's events are kept; nil for all.
  ///   - slots: of each ring.
  public init(
    _ probes: Probes, directory: String, traceID: TraceID, clock: ClockLine, subsystem: String? = nil,
    slots: UInt64 = 1 << 16
  ) throws(ProbeError) {
    (self.probes, self.directory, self.traceID, self.clock) = (probes, directory, traceID, clock)
    (self.subsystem, self.slots) = (subsystem, slots)
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
    let error = pthread_create(
      &thread, nil,
      { argument in
        Unmanaged<KernelRecorder>.fromOpaque(argument!).takeUnretainedValue().run()
        return nil
      }, Unmanaged.passUnretained(self).toOpaque())
    guard error == 0 else { throw ProbeError("no thread for the probes' events: \(String(cString: strerror(error)))") }
    hasThread = true
  }

  deinit {
    stop()
    if let reader { ring_buffer__free(reader) }
  }

  /// Detach the probes, take what is left, and close the streams.
  public func stop() {
    guard hasThread else { return }
    hasThread = false
    probes.detach()
    stopping.store(true, ordering: .releasing)
    pthread_join(thread, nil)
  }

  private func run() {
    var all = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, nil)
    var rounds = 0
    while true {
      let isLast = stopping.load(ordering: .acquiring)
      // The probes wake nobody, which would cost them more than all else: there is somebody who looks.
      let count = ring_buffer__consume(reader)
      rounds += 1
      if rounds % 64 == 0 || isLast { noteSkipped() }
      if isLast { break }
      if count > 0 { continue }
      var pause = timespec(tv_sec: 0, tv_nsec: 500_000)
      nanosleep(&pause, nil)
    }
    finish()
  }

  /// Probes that were not run: nobody knows on which CPU, or when since the last look.
  private func noteSkipped() {
    for (role, now) in probes.skipped() where now > skipped[role, default: 0] {
      let count = now - skipped[role, default: 0]
      skipped[role] = now
      missed.wrappingAdd(count, ordering: .relaxed)
      for (key, stream) in streams where key.origin.role == role {
        append(
          Record(kind: .gap, flags: EventFlag.notRun, a: count), UnsafeRawBufferPointer(start: nil, count: 0),
          at: TickScale.monotonicFromNow().start, to: stream)
        break
      }
    }
  }

  private var anyStream: Stream? { streams.min { ($0.key.cpu, $0.value.last) < ($1.key.cpu, $1.value.last) }?.value }

  /// What was lost at the very end, and what the probes cost.
  private func finish() {
    let now = TickScale.monotonicFromNow().start
    for (cpu, count) in zip(cpus, probes.lost()) where count > cpu.lost {
      let stream = streams.first { $0.key.cpu == cpu.number }?.value
      note(lost: count &- cpu.lost, of: cpu, before: now, in: stream ?? self.stream(cpu.number, .nobody))
    }
    if let stream = anyStream {
      for cost in probes.costs() {
        let name = Array(cost.name.utf8)
        let record = Record(
          kind: .probe, flags: EventFlag.bytes, a: cost.runs,
          b: UInt64(name.count) | UInt64(min(cost.ns / max(cost.runs, 1), UInt64(UInt32.max))) << 32)
        name.withUnsafeBytes { append(record, $0, at: now, to: stream) }
      }
    }
    streams = [:]
  }

  private static let take: ring_buffer_sample_fn = { context, data, size in
    let cpu = Unmanaged<CPU>.fromOpaque(context!).takeUnretainedValue()
    cpu.recorder.take(UnsafeRawBufferPointer(start: data, count: Int(size)), cpu)
    return 0
  }

  private func take(_ raw: UnsafeRawBufferPointer, _ cpu: CPU) {
    guard let event = RawEvent(raw) else { return }
    guard let stream = stream(cpu.number, event.origin) else { return }
    if event.lost > cpu.lost { note(lost: event.lost &- cpu.lost, of: cpu, before: event.time, in: stream) }
    append(event.record, event.bytes, at: event.time, to: stream)
    taken.wrappingAdd(1, ordering: .relaxed)
  }

  private func note(lost count: UInt64, of cpu: CPU, before time: UInt64, in stream: Stream?) {
    cpu.lost &+= count
    missed.wrappingAdd(count, ordering: .relaxed)
    guard let stream else { return }
    append(Record(kind: .gap, a: count), UnsafeRawBufferPointer(start: nil, count: 0), at: time, to: stream)
  }

  private func append(_ record: Record, _ bytes: UnsafeRawBufferPointer, at time: UInt64, to stream: Stream) {
    var record = record
    stream.last = max(stream.last, clock.ticks(at: time))
    record.time = stream.last
    if bytes.isEmpty { stream.producer.append(record) } else { stream.producer.append(record, bytes) }
  }

  /// The stream of a CPU and an origin; nil for those that are not kept.
  private func stream(_ cpu: Int, _ origin: Origin) -> Stream? {
    let key = StreamKey(cpu: cpu, origin: origin)
    if let stream = streams[key] {
      if !stream.isNamed { introduce(stream, key) }
      return stream
    }
    if let subsystem, origin.role == .target, probes.name(of: origin)?.nqn != subsystem { return nil }
    guard streams.count < KernelRecorder.streamsMax else { return nil }
    let number = UInt16(streams.count)
    let ring: Ring
    do throws(TraceError) {
      ring = try Ring(
        creating: "\(directory)/kernel-\(number).ring", capacity: slots, source: .kernel, stream: number,
        traceID: traceID)
    } catch {
      return nil
    }
    let stream = Stream(ring)
    streams[key] = stream
    introduce(stream, key)
    return stream
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
    let record = Record(
      kind: .origin, flags: key.origin.role.rawValue | (nqn.isEmpty ? 0 : EventFlag.bytes), qid: UInt16(key.cpu),
      cid: key.origin.controller, a: UInt64(key.origin.role == .host ? name?.cntlid ?? 0 : 0), b: UInt64(nqn.count))
    nqn.withUnsafeBytes { append(record, $0, at: clock.ns, to: stream) }
  }
}

extension Origin {
  fileprivate static let nobody = Origin(role: .target, controller: noController)
}
