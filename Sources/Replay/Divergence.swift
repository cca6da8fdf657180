import NVMe
import Trace

/// Where the engine first did something else than it did when it was recorded.
public struct Divergence: Sendable {
  public typealias Field = (name: String, expected: String, came: String)

  /// Number of the event in its stream, from 0.
  public let event: UInt64
  public let stream: UInt16
  /// Nanoseconds since the trace began.
  public let timeNs: UInt64
  /// What the recording has here.
  public let expected: String
  /// What the engine did.
  public let came: String
  /// The fields in which they differ: name, recorded value, the engine's.
  public let fields: [Field]
  /// Commands that were fetched and not yet completed, as `qid/cid opcode`.
  public let inFlight: [String]
  /// The events before, oldest first.
  public let before: [String]
}

extension Divergence: CustomStringConvertible {
  /// The story, in the order in which one asks: where, what, in which field, with what under way, after what.
  public var description: String {
    var lines = [
      "diverged at event \(event) of stream \(stream), \(timeNs) ns into the trace",
      "  recorded: \(expected)",
      "  engine:   \(came)",
    ]
    for field in fields { lines.append("  differs:  \(field.name): recorded \(field.expected), engine \(field.came)") }
    let list = inFlight.isEmpty ? "none" : inFlight.prefix(32).joined(separator: ", ")
    lines.append("  commands in flight (\(inFlight.count)): \(list)")
    lines.append("  before it:")
    for line in before { lines.append("    \(line)") }
    return lines.joined(separator: "\n")
  }
}
