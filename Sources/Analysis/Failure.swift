/// Commands of one opcode that completed with one error status.
public struct CommandFailure: Equatable, Sendable {
  public let isAdmin: Bool
  /// Nil if the trace does not contain it.
  public let opcode: UInt8?
  /// The Status field of the first: CQE DW3 31:17.
  public let status: UInt16
  public internal(set) var count: UInt64
  /// The first completion: number of its event, from 1 in the order of `dump`; its time; its command.
  public let firstEvent: UInt64
  public let firstNs: UInt64
  public let firstQID: UInt16
  public let firstCID: UInt16
}

/// Counts failures by opcode and status code.
struct FailureCounts {
  /// More combinations are only counted.
  static let kindsMax = 64

  private(set) var kinds: [CommandFailure] = []
  private(set) var others: UInt64 = 0

  mutating func add(_ failure: CommandFailure) {
    let known = kinds.firstIndex {
      $0.isAdmin == failure.isAdmin && $0.opcode == failure.opcode && $0.status & 0x7ff == failure.status & 0x7ff
    }
    if let known {
      kinds[known].count &+= 1
    } else if kinds.count < FailureCounts.kindsMax {
      kinds.append(failure)
    } else {
      others &+= 1
    }
  }
}
