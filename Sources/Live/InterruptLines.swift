import Glibc
import NVMe
import Synchronization

/// The event descriptors through which the host hears of interrupts: MSI-X vectors, and INTx for who uses no MSI-X.
///
/// The serving thread sets them, the engine's thread raises them.
final class InterruptLines: Sendable {
  /// A vector's descriptor; -1 for none.
  private let vectors: [Atomic32]
  private let pin = Atomic32()

  /// `Atomic` cannot be copied into an array; a box of it can.
  private final class Atomic32: Sendable {
    let value = Atomic<Int32>(-1)
  }

  init(vectors: Int) { self.vectors = (0..<vectors).map { _ in Atomic32() } }

  var count: Int { vectors.count }

  func set(vector: Int, descriptor: Int32) { vectors[vector].value.store(descriptor, ordering: .releasing) }

  func set(pin descriptor: Int32) { pin.value.store(descriptor, ordering: .releasing) }

  func raise(_ vector: UInt16) {
    var descriptor = vectors[Int(vector)].value.load(ordering: .acquiring)
    if descriptor < 0 { descriptor = pin.value.load(ordering: .acquiring) }
    guard descriptor >= 0 else { return }
    var one: UInt64 = 1
    // An eventfd that is already signalled to the brim has told the host enough.
    _ = write(descriptor, &one, 8)
  }
}
