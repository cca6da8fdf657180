import Trace

/// The trace that a recording writes, and its trouble, which is reported once.
final class RecordedTrace {
  private let thread: RecorderThread
  private var hasToldTrouble = false
  /// The recording holds nothing, and the previous trace was kept instead.
  private(set) var isDiscarded = false

  var progress: RecordingProgress { thread.progress }

  /// - Parameters:
  ///   - command: what is recorded, in words.
  ///   - options: nvmepf's own command line, if `command` is another.
  ///   - notes: additional metadata of the trace.
  init(
    _ path: String, id: TraceID, scale: TickScale, directory: RecordingDirectory, command: [String],
    options words: [String], notes: [(String, String)], options: TraceWriter.Options
  ) throws {
    var options = options
    options.keepsPrevious = true
    let metadata = RecordingOrigin.notes(command: command, options: words) + notes
    thread = try RecorderThread(
      TraceWriter(path: path, id: id, scale: scale, metadata: metadata, directory: directory, options: options))
  }

  func consumeTrouble() -> String? {
    guard !hasToldTrouble, let error = progress.error else { return nil }
    hasToldTrouble = true
    return error.description
  }

  /// Close it.
  /// - Parameter isWorthKeeping: see `TraceWriter.finish`.
  func finish(isWorthKeeping: Bool) throws {
    let summary = thread.stop(isWorthKeeping: isWorthKeeping)
    isDiscarded = summary.isDiscarded
    for problem in summary.problems { complain(problem.description) }
    if let error = summary.error { throw Failure(lines: hasToldTrouble ? [] : [error.description], status: 1) }
  }
}
