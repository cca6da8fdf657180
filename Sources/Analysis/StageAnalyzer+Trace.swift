import Events
import Trace

extension StageAnalyzer {
  /// Process every event of a trace, in order of time.
  public mutating func ingestAll(of reader: TraceReader) throws(TraceError) {
    var events = try MergedEvents(reader)
    while let (record, id) = try events.next() {
      ingest(record.pointee, source: id.source, stream: Int(id.stream), tail: record.tail)
    }
  }
}

extension Summary {
  /// The analysis of a trace up to its first damage.
  public init(ofReadable reader: TraceReader, _ subject: Subject = .endpoint) {
    var analyzer = StageAnalyzer(subject: subject)
    try? analyzer.ingestAll(of: reader)
    self = analyzer.summary()
  }

  /// The analysis of a whole trace.
  ///
  /// - Parameters:
  ///   - filter: the statistics contain only commands that it selects; nil for all.
  ///   - windowNs: length of the windows of time; nil for none.
  ///   - onCommand: called with every command that the statistics contain, and with admin commands.
  public init(
    of reader: TraceReader, _ subject: Subject = .endpoint, by grouping: Grouping? = nil,
    filter: CommandFilter? = nil, windowNs: UInt64? = nil, onCommand: ((borrowing CommandTimes) -> Void)? = nil
  ) throws(TraceError) {
    var analyzer = StageAnalyzer(grouping: grouping, subject: subject, filter: filter, windowNs: windowNs)
    analyzer.onCommand = onCommand
    try analyzer.ingestAll(of: reader)
    self = analyzer.summary()
    let bound = reader.header.metadata.first { $0.key == TraceHeader.MergeKey.bound }
    isComplete = reader.isComplete
    hostClockBoundNs = bound.flatMap { Double($0.value) }.flatMap { $0.isFinite && $0 >= 0 ? $0 : nil }
  }
}
