import NVMe
import Trace

/// The first point at which the engine's behaviour differs from the recording.
public struct Divergence: Sendable {
  public typealias Field = (name: String, expected: String, came: String)

  /// Number of the event in its stream, from 0.
  public let event: UInt64
  public let stream: UInt16
  /// Nanoseconds since the trace began.
  public let timeNs: UInt64
  /// The recorded event.
  public let expected: String
  /// The engine's event.
  public let came: String
  /// The differing fields: name, recorded value, the engine's value.
  public let fields: [Field]
  /// Commands fetched and not yet completed, as `qid/cid opcode`.
  public let inFlight: [String]
  /// The preceding events, oldest first.
  public let before: [String]
}

extension Divergence: CustomStringConvertible {
  /// The report of the divergence: where, what, which fields, which commands in flight, which events before.
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
