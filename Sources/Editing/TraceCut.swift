import Events
import Trace

/// A part of a trace as a trace of its own, which replays as far as the whole does.
public struct TraceCut {
  private let input: EditInput
  private var windows: [EngineWindow]

  /// Nanoseconds since the trace began between which the events of the cut lie: those asked for, and the rest of the
  /// passes in which they lie.
  public let begin: UInt64
  public let end: UInt64
  /// Why the cut begins at a recorded checkpoint and not at the pass that was asked for; nil if it does not.
  public var problem: String? { windows.compactMap(\.problem).first }

  /// - Parameter period: nanoseconds since the trace began, without its end.
  /// - Returns: nil if the trace has no events there.
  public init?(_ input: EditInput, _ period: Range<UInt64>) throws(TraceError) {
    self.input = input
    var windows: [EngineWindow] = []
    for (id, chunks) in input.reader.streams where id.source == .engine {
      if let window = try EngineWindow(input, id, chunks, period) { windows.append(window) }
    }
    self.windows = windows
    begin = windows.map(\.begin).min() ?? period.lowerBound
    end = windows.isEmpty ? period.upperBound : windows.map(\.end).max()!
    let hasEngine = input.reader.streams.contains { $0.id.source == .engine }
    guard try hasEngine ? !windows.isEmpty : TraceCut.hasEvents(input, period) else { return nil }
  }

  init(_ input: EditInput, _ window: EngineWindow) {
    (self.input, windows, begin, end) = (input, [window], window.begin, window.end)
  }

  /// Keep only the admin queue, some submission queues, and their completion queues.
  /// - Throws: if the cut does not replay without the others.
  public mutating func keepQueues(_ qids: Set<UInt16>) throws(TraceError) {
    guard !windows.isEmpty, problem == nil else {
      throw TraceError(.damaged, "\(input.reader.path): only passes that this version replays can be cut by queue")
    }
    for place in windows.indices {
      do throws(TraceError) { try windows[place].keepQueues(input) { qids.contains($0) } } catch {
        throw TraceError(error.kind, "\(input.reader.path): \(error.description)")
      }
    }
  }

  /// Whether a trace without an engine's stream has events in a period.
  private static func hasEvents(_ input: EditInput, _ period: Range<UInt64>) throws(TraceError) -> Bool {
    var selection = ChunkSelection()
    (selection.from, selection.to) = (period.lowerBound, period.upperBound)
    for (_, chunks) in input.reader.streams {
      var walk = try EventWalk(input, chunks.filter { selection.mayContain(input.reader.chunks[$0].header) })
      while let record = try walk.next() { if period.contains(record.pointee.time) { return true } }
    }
    return false
  }

  /// Write it to `path`.
  /// - Parameters:
  ///   - key: of the note.
  ///   - note: what was cut, for the readers of the trace.
  /// - Throws: if the cut does not replay as the whole does, or cannot be written; then nothing is.
  public func write(to path: String, as key: String = "cut", note: String) throws(TraceError) -> EditedTrace {
    let reader = input.reader
    let copy = try TraceCopy(path, header: reader.header.edited(key, note), of: reader)
    for (id, chunks) in reader.streams {
      if let window = windows.first(where: { $0.id == id }) {
        try window.forEach(input) { (record) throws(TraceError) in try copy.append(record, as: id) }
      } else if id.source != .engine {
        try append(id, chunks, to: copy)
      }
    }
    try copy.close(end: closing)
    guard problem == nil else { return try EditedTrace(publishing: copy, as: path) }
    return try EditedTrace(publishing: copy, as: path, input, expecting: windows.compactMap(\.divergence).first)
  }

  /// The clocks at the end; nil if the engine was not at rest there.
  private var closing: ClockSnapshot? {
    if windows.contains(where: \.containsEnd) || windows.isEmpty { return input.reader.end }
    return windows.allSatisfy(\.endsBetweenPasses) ? input.reader.header.clocks(at: end) : nil
  }

  /// Append the part of a stream that no replay needs. An owner of a kernel's stream remains known.
  private func append(_ id: StreamID, _ chunks: [Int], to copy: TraceCopy) throws(TraceError) {
    var walk = try EventWalk(input, chunks.filter { input.reader.chunks[$0].header.firstTime < end })
    var owner: (record: Record, bytes: [UInt8])?
    while let record = try walk.next() {
      let time = record.pointee.time
      if time >= end { break }
      if time < begin {
        if record.pointee.is(.origin) { owner = (record.pointee, Array(record.bytes ?? .init(start: nil, count: 0))) }
        continue
      }
      if var owner {
        owner.record.time = begin
        try owner.record.withTail(owner.bytes) { (record) throws(TraceError) in try copy.append(record, as: id) }
      }
      owner = nil
      if windows.allSatisfy({ $0.filter?.keeps(record.pointee) ?? true }) { try copy.append(record, as: id) }
    }
  }
}
