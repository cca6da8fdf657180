import Glibc

/// The event descriptors through which the host hears of interrupts: MSI-X vectors, and INTx for who uses no MSI-X.
/// The engine's thread owns them, so that a descriptor is never signalled after it was taken away.
struct InterruptLines: ~Copyable {
  /// A vector's descriptor; -1 for none.
  private let vectors: UnsafeMutablePointer<Int32>
  private let count: Int
  private var pin: Int32 = -1

  init(vectors count: Int) {
    self.count = count
    vectors = .allocate(capacity: count)
    vectors.initialize(repeating: -1, count: count)
  }

  deinit { vectors.deallocate() }

  /// - Parameter vector: nil for INTx.
  mutating func set(vector: Int?, descriptor: Int32) {
    if let vector {
      precondition(vector < count)
      vectors[vector] = descriptor
    } else {
      pin = descriptor
    }
  }

  mutating func removeAll() {
    vectors.update(repeating: -1, count: count)
    pin = -1
  }

  func raise(_ vector: UInt16) { signal(vectors[Int(vector)] >= 0 ? vectors[Int(vector)] : pin) }

  /// Signal this vector, nil for INTx, and no other in its place.
  func trigger(_ vector: Int?) { signal(vector.map { vectors[$0] } ?? pin) }

  private func signal(_ descriptor: Int32) {
    guard descriptor >= 0 else { return }
    var one: UInt64 = 1
    // An eventfd that is already signalled to the brim has told the host enough. Where the host has left it blocking the
    // write waits, until `Shard` interrupts it.
    _ = write(descriptor, &one, 8)
  }
}
