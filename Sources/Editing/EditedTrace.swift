import Events
import Replay
import Trace

/// A trace that an edit wrote.
public struct EditedTrace: Sendable {
  public let path: String
  public let events: UInt64
  /// Fetched submission queue entries of I/O queues.
  public let commands: UInt64
  public let bytes: UInt64
  /// What its replay found; nil if it has no engine's stream that this version replays.
  public let replay: ReplayResult?

  /// Give a complete file its path, unless it does not replay as expected.
  /// - Parameters:
  ///   - divergence: the divergence that its replay must find, or that there must be none.
  ///   - check: in what else the new trace differs; nil if in nothing.
  init(
    publishing copy: TraceCopy, as path: String, _ input: EditInput, expecting divergence: Divergence?,
    check: (TraceReader) throws(TraceError) -> String? = { (_) throws(TraceError) in nil }
  ) throws(TraceError) {
    let reader = try TraceReader(path: copy.place)
    let replay = try input.other(reader).replay()
    var difference = EditedTrace.difference(replay.divergence, divergence)
    if difference == nil { difference = try check(reader) }
    if let difference {
      throw TraceError(.damaged, "nothing was written, because the new trace would replay otherwise: \(difference)")
    }
    try self.init(path, copy, reader, reader.totals.sources.contains(.engine) ? replay : nil)
  }

  /// The same for a trace that this version does not replay.
  init(publishing copy: TraceCopy, as path: String) throws(TraceError) {
    try self.init(path, copy, TraceReader(path: copy.place), nil)
  }

  private init(_ path: String, _ copy: TraceCopy, _ reader: TraceReader, _ replay: ReplayResult?) throws(TraceError) {
    try copy.publish()
    let totals = reader.totals
    (self.path, bytes, self.replay) = (path, reader.bytes, replay)
    (events, commands) = (totals.events, totals.commands)
  }

  /// In what a divergence differs from the expected one; nil if in nothing.
  private static func difference(_ came: Divergence?, _ expected: Divergence?) -> String? {
    switch (came, expected) {
    case (nil, nil): nil
    case (let came?, nil): "\(came.engine) instead of \(came.recorded)"
    case (nil, let expected?): "the divergence at \(expected.recorded) is gone"
    case (let came?, let expected?):
      came.isSame(as: expected) ? nil : "it diverges at \(came.recorded) instead of \(expected.recorded)"
    }
  }
}

extension Divergence {
  /// Whether the engine wrote other bytes to host memory.
  var isOfBytes: Bool { kind == .bytes && recordedKind == .write }
}
