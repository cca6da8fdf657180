import Faults
import Synchronization

/// The faults of an endpoint, and the seed of those that strike at random.
public struct FaultPlan: Equatable, Sendable {
  public var faults: [Fault]
  public var seed: UInt64

  public init(_ faults: [Fault] = [], seed: UInt64 = 1) { (self.faults, self.seed) = (faults, seed) }

  public var isEmpty: Bool { faults.isEmpty }

  /// Whether the seed matters.
  public var isRandom: Bool { faults.contains { $0.selection.rate < 1 } }
}

/// How often each kind of fault was injected; read by any thread.
public final class FaultCounts: @unchecked Sendable {
  private let counts: UnsafeMutablePointer<Atomic<UInt64>>

  public init() {
    counts = .allocate(capacity: Fault.Kind.allCases.count)
    for place in Fault.Kind.allCases.indices { (counts + place).initialize(to: Atomic(0)) }
  }

  deinit { counts.deallocate() }

  func add(_ kind: Fault.Kind) { counts[Int(kind.rawValue)].add(1, ordering: .relaxed) }

  public subscript(kind: Fault.Kind) -> UInt64 { counts[Int(kind.rawValue)].load(ordering: .relaxed) }
}
