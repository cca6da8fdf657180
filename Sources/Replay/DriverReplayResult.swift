/// A difference between what nvmet-pci-epf did with a command and what the engine does with the same bytes.
public struct DriverDifference: Sendable {
  /// Why it is one.
  public enum Class: Equatable, Sendable {
    /// The engine departs from the driver here on purpose, as the text says.
    case knownDeparture(String)
    /// A finding about one of the two.
    case new
  }

  public let timeNs: UInt64
  /// Which command: queue, identifier, opcode, place; or the controller.
  public let command: String
  /// What the driver did, and what the engine did.
  public let what: String
  public let kind: Class
}

/// What a replay of the kernel's driver through the engine found.
public struct DriverReplayResult: Sendable {
  /// Commands that the engine was given, and those of them whose completions were compared.
  public internal(set) var commands: UInt64 = 0
  public internal(set) var compared: UInt64 = 0
  public internal(set) var events: UInt64 = 0
  /// The first of either class; the counts are of all.
  public private(set) var differences: [DriverDifference] = []
  public private(set) var newDifferences = 0
  public private(set) var knownDifferences = 0
  /// Commands that were in flight when their queue, the controller or the link went down, or when the recording ended.
  public internal(set) var interrupted: UInt64 = 0
  /// Commands that cannot be replayed, because the controller was enabled before the recording began.
  public internal(set) var before: UInt64 = 0
  /// Commands that the engine was not given, because its controller had failed or was disabled, or their queue was deleted.
  public internal(set) var refused: UInt64 = 0
  /// Commands that were not looked at: they came after a gap, or were more than a replay takes.
  public internal(set) var unseen: UInt64 = 0
  /// Segments and bytes that were compared.
  public internal(set) var segments: UInt64 = 0
  public internal(set) var bytes: UInt64 = 0
  public internal(set) var endsAtGap = false
  /// Commands that were not compared because a probe was not run while they were under way, or because their lists are
  /// longer than the recording keeps.
  public internal(set) var doubtful: UInt64 = 0

  private static let differencesMax = 1000

  /// What may be said.
  public enum Verdict: String, Sendable {
    /// Every command that the driver completed was compared.
    case identical
    case diverged
    /// No command could be compared.
    case nothingToCompare = "nothing to compare"
    /// The compared commands agree, but others were not compared.
    case incomplete
  }

  /// Commands that were not compared, though the driver may have completed them.
  public var uncompared: UInt64 { before + refused + unseen + doubtful }

  public var verdict: Verdict {
    if newDifferences > 0 { return .diverged }
    if compared == 0 { return .nothingToCompare }
    return uncompared > 0 || endsAtGap ? .incomplete : .identical
  }

  init() {}

  /// Known departures never take the place of a finding.
  mutating func add(_ difference: DriverDifference) {
    let count: Int
    if difference.kind == .new {
      newDifferences += 1
      count = newDifferences
    } else {
      knownDifferences += 1
      count = knownDifferences
    }
    if count <= DriverReplayResult.differencesMax { differences.append(difference) }
  }
}
