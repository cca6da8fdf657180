/// Why a command in flight ended without a completion.
public enum Drop: String, CaseIterable, Sendable {
  /// The host cleared CC.EN.
  case disabled = "controller-reset"
  case deviceReset = "device-reset"
  case functionReset = "function-level-reset"
  case disconnect
  case linkDown = "link-down"
  /// Its queue was deleted.
  case queueDeletion = "queue-deletion"
}

/// Number of I/O commands for each reason.
struct DropCounts {
  private(set) var counts = [UInt64](repeating: 0, count: Drop.allCases.count)
  /// What ended each generation between two resets; later ones count as `disabled`.
  private var causes: [Drop] = []
  private static let causesMax = 1 << 16

  mutating func endGeneration(_ cause: Drop) {
    if causes.count < DropCounts.causesMax { causes.append(cause) }
  }

  /// The reset that ended a generation.
  func cause(ofGeneration epoch: UInt32) -> Drop { Int(epoch) < causes.count ? causes[Int(epoch)] : .disabled }

  mutating func add(_ drop: Drop) { counts[Drop.allCases.firstIndex(of: drop)!] &+= 1 }

  var known: [(drop: Drop, commands: UInt64)] {
    zip(Drop.allCases, counts).filter { $0.1 > 0 }.map { (drop: $0.0, commands: $0.1) }
  }
}
