/// A difference between the actions of nvmet-pci-epf and those of the engine for the same bytes.
public struct DriverDifference: Sendable {
  /// Class of the difference.
  public enum Class: Equatable, Sendable {
    /// The engine departs from the driver on purpose, for the reason given.
    case knownDeparture(String)
    /// A finding about one of the two.
    case new
  }

  public let timeNs: UInt64
  /// The command: queue, identifier, opcode, position; or the controller.
  public let command: String
  /// What the driver did, and what the engine did.
  public let what: String
  public let kind: Class
}

/// The result of replaying the kernel's driver through the engine.
public struct DriverReplayResult: Sendable {
  /// Commands given to the engine, and those whose completions were compared.
  public internal(set) var commands: UInt64 = 0
  public internal(set) var compared: UInt64 = 0
  public internal(set) var events: UInt64 = 0
  /// The first differences of either class; the counts include all.
  public private(set) var differences: [DriverDifference] = []
  /// Findings that are not known departures.
  public private(set) var newDifferences = 0
  /// Findings that are known departures.
  public private(set) var knownDifferences = 0
  /// Commands in flight when their queue, the controller or the link went down, or when the recording ended.
  public internal(set) var interrupted: UInt64 = 0
  /// Commands that cannot be replayed because the controller was enabled before the recording began.
  public internal(set) var before: UInt64 = 0
  /// Commands not given to the engine because its controller had failed or was disabled, or their queue was deleted.
  public internal(set) var refused: UInt64 = 0
  /// Commands after a gap, or beyond the limits of the replay; not compared.
  public internal(set) var afterEnd: UInt64 = 0
  /// Compared segments and bytes.
  public internal(set) var segments: UInt64 = 0
  public internal(set) var bytes: UInt64 = 0
  /// The replay ended at a gap.
  public internal(set) var endsAtGap = false
  /// Commands not compared because a probe was not run while they were in flight, or because their lists are longer
  /// than the recording keeps.
  public internal(set) var doubtful: UInt64 = 0

  private static let differencesMax = 1000

  /// The overall result.
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
  public var uncompared: UInt64 { before + refused + afterEnd + doubtful }

  public var verdict: Verdict {
    if newDifferences > 0 { return .diverged }
    if compared == 0 { return .nothingToCompare }
    return uncompared > 0 || endsAtGap ? .incomplete : .identical
  }

  init() {}

  /// Known departures never displace a finding.
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
