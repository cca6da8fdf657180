import Analysis
import Endpoint
import Events
import NVMe
import Recording
import Target

/// Passes events on to an analysis. The engine's and the host's are those of one thread, so they come in order of time.
struct AnalysingRecorder: Recorder, ~Copyable {
  /// The analysis of both.
  final class Analysis {
    private var analyzer = StageAnalyzer()
    /// The finished I/O commands.
    private(set) var commands: [CommandTimes] = []

    init() {
      analyzer.onCommand = { [unowned self] in
        if $0.qid != .admin { commands.append(copy $0) }
      }
    }

    /// Out of line: the functions that record are the engine's hottest, and access no object.
    @inline(never)
    func ingest(_ record: Record, _ source: Source, _ tail: UnsafeRawBufferPointer) {
      analyzer.ingest(record, source: source, tail: tail)
    }

    var summary: Summary { analyzer.summary() }
  }

  static var isOn: Bool { true }
  let source: Source
  let world: World
  let analysis: Analysis
  var time: VirtualTime { world.time }
  var keepsPayload: Bool { false }

  func append(_ record: Record) { analysis.ingest(record, source, UnsafeRawBufferPointer(start: nil, count: 0)) }

  func append(_ record: Record, entry: SubmissionEntry) {
    withUnsafeBytes(of: entry) { analysis.ingest(record, source, $0) }
  }

  func append(_ record: Record, _ bytes: UnsafeRawBufferPointer) { analysis.ingest(record, source, bytes) }

  func digest(_ bytes: UnsafeRawBufferPointer, _ direction: Direction, _ request: IORequest) -> UInt32 {
    world.pass(direction == .fromHost ? .digestFromHost : .digestToHost, request.qid.rawValue)
    return 0
  }

  func isCheckpointDue(now: UInt64) -> Bool { false }
  func checkpoint(_ state: UnsafeRawBufferPointer, since begin: UInt64) {}
  func isStateHashDue() -> Bool { false }
  func note(_ hash: StateHash, since begin: UInt64) {}
  func finish() {}
}
