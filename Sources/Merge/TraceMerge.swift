import Events
import Glibc
import KernelStreams
import Trace

/// Combines a target's trace with its host's: the host driver's events in the target's time.
public struct TraceMerge {
  public let match: HostMatch
  private let host: TraceReader
  private let target: TraceReader

  /// - Returns: nil if the two have no commands in common.
  public init?(host: TraceReader, target: TraceReader) throws(TraceError) {
    try self.init(host: host, target: target, commandsMax: Observations.commandsMax)
  }

  /// - Parameter commandsMax: how many commands of each side to compare.
  init?(host: TraceReader, target: TraceReader, commandsMax: Int) throws(TraceError) {
    guard let match = try HostMatch(host: host, target: target, commandsMax: commandsMax) else { return nil }
    (self.host, self.target, self.match) = (host, target, match)
  }

  /// Write the merged trace to `path`.
  /// - Parameter isInterrupted: asked now and then; true ends the merge and removes what it wrote.
  /// - Throws: if the two have more streams than a trace supports, or it was interrupted.
  public func write(to path: String, isInterrupted: () -> Bool = { false }) throws(TraceError) -> RecordingSummary {
    let numbers = try hostStreamNumbers()
    let id = TraceID.random()
    var streams = MergedStreams(count: target.streams.count + numbers.count, id: id)
    let directory = try RecordingDirectory(creating: id, tracePath: path, ringBytes: streams.bytes)
    defer { directory.remove() }
    streams.directory = directory.path
    let recorder = try RecorderThread(
      TraceWriter(path: path, id: id, scale: .identity, metadata: metadata, directory: directory))
    do throws(TraceError) {
      let nqn = try copyTarget(into: &streams, isInterrupted)
      try copyHost(into: &streams, numbers, nqn, isInterrupted)
    } catch {
      streams.finish()
      let written = recorder.stop()
      // Before its first command the previous trace of that name is still in place.
      if !written.isDiscarded { unlink(written.path) }
      throw error
    }
    streams.finish()
    return recorder.stop()
  }

  /// The notes of both sides: the target's own, then the host's by a name of their own, then how the clocks relate.
  private var metadata: [(key: String, value: String)] {
    var notes = target.header.metadata
    let known = Set([TraceHeader.MergeKey.offset, TraceHeader.MergeKey.drift, TraceHeader.MergeKey.bound])
    var room = TraceMerge.notesMax - notes.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
    for (key, value) in host.header.metadata where !known.contains(key) {
      room -= key.utf8.count + value.utf8.count + 16
      guard room > 0 else { break }
      notes.append((TraceHeader.MergeKey.hostPrefix + key, value))
    }
    notes += [
      (TraceHeader.MergeKey.offset, "\(match.fit.offsetNs)"), (TraceHeader.MergeKey.drift, "\(match.fit.drift)"),
      (TraceHeader.MergeKey.bound, "\(match.fit.boundNs)"),
    ]
    if let end = match.comparedUntilNs { notes.append((TraceHeader.MergeKey.comparedUntil, "\(end)")) }
    return notes
  }

  /// Bytes of notes beyond which the host's are left out: a header holds twice as much.
  private static let notesMax = 1 << 19

  /// Events between two questions whether to go on.
  private static let stride: UInt64 = 1 << 14

  private static func goOn(_ count: inout UInt64, _ isInterrupted: () -> Bool) throws(TraceError) {
    count += 1
    guard count % stride == 0, isInterrupted() else { return }
    throw TraceError(.system(EINTR), "interrupted; nothing was written")
  }

  /// Stream numbers of the host in the merged trace: after the target's; streams of its other controllers are left out.
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

  /// - Returns: the NQN of the controller that the host drives; empty if the target's trace does not contain it.
  private func copyTarget(into streams: inout MergedStreams, _ isInterrupted: () -> Bool) throws(TraceError) -> String {
    var nqn = ""
    var count: UInt64 = 0
    var kernel = KernelStreams()
    var events = try MergedEvents(target)
    while let (record, id) = try events.next() {
      try TraceMerge.goOn(&count, isInterrupted)
      if nqn.isEmpty, id.source == .kernel,
        case .owner(let owner)? = kernel.ingest(record.pointee, tail: record.tail, stream: id.stream),
        owner.isTarget(match.controller)
      {
        nqn = owner.nqn
      }
      try streams.append(record.pointee, record.tail, as: id)
    }
    return nqn
  }

  private func copyHost(
    into streams: inout MergedStreams, _ numbers: [UInt16: UInt16], _ nqn: String, _ isInterrupted: () -> Bool
  ) throws(TraceError) {
    var count: UInt64 = 0
    var kernel = KernelStreams()
    var named: Set<UInt16> = []
    // The owner of streams that are not copied.
    var gap: Event.Gap?
    var events = try MergedEvents(host)
    while let (record, id) = try events.next() {
      try TraceMerge.goOn(&count, isInterrupted)
      guard id.source == .kernel else { continue }
      var event = record.pointee
      event.time = match.fit.targetTime(event.time)
      let item = kernel.ingest(event, tail: record.tail, stream: id.stream)
      guard let number = numbers[id.stream] else {
        if case .gap(let missing)? = item { gap = gap?.joined(missing) ?? missing }
        continue
      }
      let id = StreamID(source: .kernel, stream: number)
      if case .owner(let owner)? = item {
        if owner.isHost(match.instance), named.insert(number).inserted {
          try introduce(Event.Origin(event), nqn, as: id, in: &streams)
        }
        continue
      }
      guard named.contains(number) else { continue }
      if let missing = gap {
        try streams.append(missing.record, as: id)
        gap = nil
      }
      try streams.append(event, record.tail, as: id)
    }
  }

  /// The host may not have known the target's name yet.
  private func introduce(_ origin: Event.Origin, _ nqn: String, as id: StreamID, in streams: inout MergedStreams)
    throws(TraceError)
  {
    var origin = origin
    let bytes = Array(nqn.utf8)
    origin.flags = bytes.isEmpty ? .host : [.host, .bytes]
    (origin.cntlid, origin.length) = (UInt32(match.controller), UInt32(bytes.count))
    var record = origin.record
    record.tail = UInt16(Record.slots(bytes.count))
    var failure: TraceError?
    bytes.withUnsafeBytes { bytes in
      do throws(TraceError) {
        try streams.append(record, bytes, as: id)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }
}

/// The rings of a merged recording, by stream.
private struct MergedStreams {
  private final class Stream {
    var producer: RingProducer
    var last: UInt64 = 0
    init(_ ring: Ring) { producer = RingProducer(ring, whenFull: .waitSilently) }
  }

  var directory = ""
  private let id: TraceID
  private let slots: UInt64
  private let count: Int
  private var streams: [StreamID: Stream] = [:]

  /// An engine's checkpoints are large.
  private static let engineSlots: UInt64 = 1 << 18

  init(count: Int, id: TraceID) {
    (self.count, self.id) = (count, id)
    slots = count <= 32 ? 1 << 16 : 1 << 14
  }

  /// Size of the rings.
  var bytes: UInt64 { (UInt64(count) * slots + MergedStreams.engineSlots) * UInt64(Record.size) }

  /// Leave out events that this version cannot write because another version recorded them.
  mutating func append(
    _ record: Record, _ bytes: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0), as name: StreamID
  ) throws(TraceError) {
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
