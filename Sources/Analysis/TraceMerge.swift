import Trace

/// A trace of a target and one of its host, as one: the host's driver in the target's time.
public struct TraceMerge {
  public let match: HostMatch
  private let host: TraceReader
  private let target: TraceReader

  /// - Returns: nil where the two have no commands in common.
  public init?(host: TraceReader, target: TraceReader) throws(TraceError) {
    guard let match = try HostMatch(host: host, target: target) else { return nil }
    (self.host, self.target, self.match) = (host, target, match)
  }

  /// Write the merged trace to `path`.
  public func write(to path: String) throws(TraceError) -> RecordingSummary {
    let id = TraceID.random()
    let directory = try RecordingDirectory(creating: id, tracePath: path, ringBytes: 64 << 20)
    defer { directory.remove() }
    let metadata =
      target.header.metadata + [
        ("host offset ns", "\(match.fit.offsetNs)"), ("host drift", "\(match.fit.drift)"),
        ("host bound ns", "\(match.fit.boundNs)"),
      ]
    let recorder = try RecorderThread(
      TraceWriter(path: path, id: id, scale: .identity, metadata: metadata, directory: directory))
    var streams = Streams(directory: directory.path, id: id)
    var nqn: [UInt8] = []

    var events = try MergedEvents(target)
    while let (record, stream) = try events.next() {
      let tail = UnsafeRawBufferPointer(start: record + 1, count: Int(record.pointee.tail) * Record.size)
      if record.pointee.event == .origin, record.pointee.cid == match.controller, nqn.isEmpty {
        nqn = Array(tail.prefix(Int(record.pointee.bLow)))
      }
      try streams.append(record.pointee, tail, as: StreamID(source: stream.source, stream: stream.stream))
    }

    // The host's streams come behind the target's, and those of its other controllers not at all.
    var events2 = try MergedEvents(host)
    var kept: Set<UInt16> = []
    while let (record, stream) = try events2.next() {
      guard stream.source == .kernel else { continue }
      var event = record.pointee
      event.time = match.fit.targetTime(event.time)
      let id = StreamID(source: .kernel, stream: 0x8000 | stream.stream)
      if event.event == .origin {
        guard event.flags & 1 != 0, event.cid == match.instance, !kept.contains(stream.stream) else { continue }
        kept.insert(stream.stream)
        // As the target names itself: the host may not have known yet.
        event.flags |= nqn.isEmpty ? 0 : EventFlag.bytes
        event.a = UInt64(match.controller)
        event.b = UInt64(nqn.count)
        let name = nqn
        var failure: TraceError?
        name.withUnsafeBytes { bytes in
          do throws(TraceError) { try streams.append(event, bytes, as: id) } catch { failure = error }
        }
        if let failure { throw failure }
        continue
      }
      guard kept.contains(stream.stream) else { continue }
      let tail = UnsafeRawBufferPointer(start: record + 1, count: Int(event.tail) * Record.size)
      try streams.append(event, tail, as: id)
    }
    streams.finish()
    return recorder.stop()
  }

  /// Rings of the merged recording, by stream.
  private struct Streams {
    private final class Stream {
      var producer: RingProducer
      var last: UInt64 = 0
      init(_ ring: Ring) { producer = RingProducer(ring, whenFull: .wait) }
    }

    let directory: String
    let id: TraceID
    private var streams: [StreamID: Stream] = [:]

    init(directory: String, id: TraceID) { (self.directory, self.id) = (directory, id) }

    mutating func append(_ record: Record, _ bytes: UnsafeRawBufferPointer, as name: StreamID) throws(TraceError) {
      let stream: Stream
      if let known = streams[name] {
        stream = known
      } else {
        stream = Stream(
          try Ring(
            creating: "\(directory)/\(name.source)-\(name.stream).ring", capacity: 1 << 16, source: name.source,
            stream: name.stream, traceID: id))
        streams[name] = stream
      }
      var record = record
      stream.last = max(stream.last, record.time)
      record.time = stream.last
      if bytes.isEmpty { stream.producer.append(record) } else { stream.producer.append(record, bytes) }
    }

    mutating func finish() { streams = [:] }
  }
}
