import Events
import Glibc
import Trace

/// A trace of a target and one of its host, as one: the host's driver in the target's time.
public struct TraceMerge {
  public let match: HostMatch
  private let host: TraceReader
  private let target: TraceReader

  /// Keys of the metadata that a merged trace has more than its target's.
  public enum Key {
    public static let offset = "host offset ns"
    public static let drift = "host drift"
    public static let bound = "host bound ns"
  }

  /// - Returns: nil where the two have no commands in common.
  public init?(host: TraceReader, target: TraceReader) throws(TraceError) {
    guard let match = try HostMatch(host: host, target: target) else { return nil }
    (self.host, self.target, self.match) = (host, target, match)
  }

  /// Write the merged trace to `path`.
  /// - Throws: where the two have more streams than a trace is written with.
  public func write(to path: String) throws(TraceError) -> RecordingSummary {
    let numbers = try hostStreamNumbers()
    let id = TraceID.random()
    var streams = MergedStreams(count: target.streams.count + numbers.count, id: id)
    let directory = try RecordingDirectory(creating: id, tracePath: path, ringBytes: streams.bytes)
    defer { directory.remove() }
    streams.directory = directory.path
    let metadata =
      target.header.metadata + [
        (Key.offset, "\(match.fit.offsetNs)"), (Key.drift, "\(match.fit.drift)"), (Key.bound, "\(match.fit.boundNs)"),
      ]
    let recorder = try RecorderThread(
      TraceWriter(path: path, id: id, scale: .identity, metadata: metadata, directory: directory))
    do throws(TraceError) {
      let nqn = try copyTarget(into: &streams)
      try copyHost(into: &streams, numbers, nqn)
    } catch {
      streams.finish()
      _ = recorder.stop()
      unlink(path)
      throw error
    }
    streams.finish()
    return recorder.stop()
  }

  /// What the host's streams are called in the merged trace: they come behind the target's, and those of its other
  /// controllers not at all.
  private func hostStreamNumbers() throws(TraceError) -> [UInt16: UInt16] {
    let count = target.streams.count + match.hostStreams.count
    let first = target.streams.map(\.id).filter { $0.source == .kernel }.map { Int($0.stream) + 1 }.max() ?? 0
    guard count <= TraceWriter.streamsMax, first + match.hostStreams.count <= Int(UInt16.max) else {
      throw TraceError(
        .damaged,
        "\(target.path) and \(host.path) have \(count) streams together, one for each CPU and controller, and a merged "
          + "trace has room for \(TraceWriter.streamsMax): record one subsystem only, on fewer CPUs")
    }
    return Dictionary(
      uniqueKeysWithValues: match.hostStreams.sorted().enumerated().map { ($1, UInt16(first + $0)) })
  }

  /// - Returns: the NQN of the controller that the host drives.
  private func copyTarget(into streams: inout MergedStreams) throws(TraceError) -> [UInt8] {
    var nqn: [UInt8] = []
    var events = try MergedEvents(target)
    while let (record, stream) = try events.next() {
      let tail = UnsafeRawBufferPointer(start: record + 1, count: Int(record.pointee.tail) * Record.size)
      if record.pointee.event == .origin, record.pointee.cid == match.controller, nqn.isEmpty {
        nqn = Array(tail.prefix(min(Int(record.pointee.bLow), 223)))
      }
      try streams.append(record.pointee, tail, as: stream)
    }
    return nqn
  }

  private func copyHost(into streams: inout MergedStreams, _ numbers: [UInt16: UInt16], _ nqn: [UInt8])
    throws(TraceError)
  {
    var named: Set<UInt16> = []
    // Whichever stream a gap stands in, what is missing may be of this controller.
    var gap: Record?
    var events = try MergedEvents(host)
    while let (record, stream) = try events.next() {
      guard stream.source == .kernel else { continue }
      var event = record.pointee
      event.time = match.fit.targetTime(event.time)
      guard let number = numbers[stream.stream] else {
        if event.event == .gap { gap = TraceMerge.joined(gap, event) }
        continue
      }
      let id = StreamID(source: .kernel, stream: number)
      if event.event == .origin {
        guard event.flags & 1 != 0, event.cid == match.instance, named.insert(number).inserted else { continue }
        try introduce(event, nqn, as: id, in: &streams)
        continue
      }
      guard named.contains(number) else { continue }
      if let missing = gap {
        try streams.append(missing, UnsafeRawBufferPointer(start: nil, count: 0), as: id)
        gap = nil
      }
      try streams.append(
        event, UnsafeRawBufferPointer(start: record + 1, count: Int(event.tail) * Record.size), as: id)
    }
  }

  /// The host may not have known yet how the target names itself.
  private func introduce(_ origin: Record, _ nqn: [UInt8], as id: StreamID, in streams: inout MergedStreams)
    throws(TraceError)
  {
    var origin = origin
    origin.flags = nqn.isEmpty ? origin.flags & ~EventFlag.bytes : origin.flags | EventFlag.bytes
    (origin.a, origin.b) = (UInt64(match.controller), UInt64(nqn.count))
    var padded = nqn + [UInt8](repeating: 0, count: (Record.size - nqn.count % Record.size) % Record.size)
    origin.tail = UInt16(padded.count / Record.size)
    var failure: TraceError?
    padded.withUnsafeMutableBytes { bytes in
      do throws(TraceError) {
        try streams.append(origin, UnsafeRawBufferPointer(bytes), as: id)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  /// One gap for several that no event stands between. The doubt begins where the earlier one's does.
  private static func joined(_ first: Record?, _ second: Record) -> Record {
    guard let first else { return second }
    var gap = second
    gap.a = first.a.addingReportingOverflow(second.a).overflow ? .max : first.a + second.a
    gap.flags = first.flags & second.flags
    let begin = first.time - min(Event.Gap(first).doubtNs, first.time)
    gap.b = max(Event.Gap(second).doubtNs, second.time - min(begin, second.time))
    return gap
  }
}

/// Rings of a merged recording, by stream.
private struct MergedStreams {
  private final class Stream {
    var producer: RingProducer
    var last: UInt64 = 0
    init(_ ring: Ring) { producer = RingProducer(ring, whenFull: .waitUnseen) }
  }

  var directory = ""
  private let id: TraceID
  private let slots: UInt64
  private let count: Int
  private var streams: [StreamID: Stream] = [:]

  /// Checkpoints of an engine are large.
  private static let engineSlots: UInt64 = 1 << 18

  init(count: Int, id: TraceID) {
    (self.count, self.id) = (count, id)
    slots = count <= 32 ? 1 << 16 : 1 << 14
  }

  /// Room that the rings need.
  var bytes: UInt64 { (UInt64(count) * slots + MergedStreams.engineSlots) * UInt64(Record.size) }

  /// What this version cannot write, because another wrote it, is left out.
  mutating func append(_ record: Record, _ bytes: UnsafeRawBufferPointer, as name: StreamID) throws(TraceError) {
    guard record.hasTailOfItsKind else { return }
    let stream = try stream(name)
    guard UInt64(record.tail) + 1 < stream.producer.ring.capacity / 2 else {
      throw TraceError(.damaged, "an event of \(record.tail) slots is larger than any that nvmepf records")
    }
    var record = record
    stream.last = max(stream.last, record.time)
    record.time = stream.last
    if bytes.isEmpty { stream.producer.append(record) } else { stream.producer.append(record, bytes) }
  }

  private mutating func stream(_ name: StreamID) throws(TraceError) -> Stream {
    if let known = streams[name] { return known }
    let stream = Stream(
      try Ring(
        creating: "\(directory)/\(name.source)-\(name.stream).ring",
        capacity: name.source == .engine ? MergedStreams.engineSlots : slots, source: name.source,
        stream: name.stream, traceID: id))
    streams[name] = stream
    return stream
  }

  mutating func finish() { streams = [:] }
}

extension Record {
  /// As many slots follow as the table of events says.
  fileprivate var hasTailOfItsKind: Bool {
    guard let description = event?.description else { return false }
    let carried = description.carriesBytes && flags & EventFlag.bytes != 0 ? Int(bLow) : 0
    return Int(tail) == (description.fixedTailBytes + carried + Record.size - 1) / Record.size
  }
}
