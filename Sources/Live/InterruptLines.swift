import Glibc

/// One of a function's interrupts.
enum InterruptLine {
  /// INTx.
  case pin
  case msi(Int)
  case msix(Int)
}

/// The event descriptors through which the host hears of interrupts. Which it has given says which kind it uses.
///
/// The engine's thread owns them, so that a descriptor is never signalled after it was taken away.
struct InterruptLines: ~Copyable {
  static let msiMax = 32

  /// A vector's descriptor; -1 for none: those of MSI-X, then those of MSI.
  private let vectors: UnsafeMutablePointer<Int32>
  private let msixCount: Int
  private var pin: Int32 = -1
  /// The host has been told, or does not want to be, and says when it wants to hear again.
  private var pinIsMasked = false
  /// Interrupt Disable of the command register (PCIe Base 6.0, 7.5.1.1.3).
  var pinIsDisabled = false

  init(vectors msixCount: Int) {
    self.msixCount = msixCount
    vectors = .allocate(capacity: msixCount + InterruptLines.msiMax)
    vectors.initialize(repeating: -1, count: msixCount + InterruptLines.msiMax)
  }

  deinit { vectors.deallocate() }

  /// An interrupt is signalled through this descriptor from now on; -1 for none.
  mutating func set(_ line: InterruptLine, _ descriptor: Int32) {
    if let place = place(line) {
      vectors[place] = descriptor
    } else {
      pin = descriptor
      pinIsMasked = false
    }
  }

  mutating func removeAll() {
    vectors.update(repeating: -1, count: msixCount + InterruptLines.msiMax)
    set(.pin, -1)
  }

  mutating func raise(_ vector: UInt16) {
    let vector = Int(vector)
    if vector < msixCount, vectors[vector] >= 0 {
      signal(vectors[vector])
    } else if vector < InterruptLines.msiMax, vectors[msixCount + vector] >= 0 {
      signal(vectors[msixCount + vector])
    } else {
      raisePin()
    }
  }

  /// INTx is a level: it is signalled once, and again only when the host has unmasked it and it is still asserted.
  mutating func raisePin() {
    guard pin >= 0, !pinIsMasked, !pinIsDisabled else { return }
    pinIsMasked = true
    signal(pin)
  }

  mutating func maskPin() { pinIsMasked = true }

  mutating func unmaskPin() { pinIsMasked = false }

  /// Signal this interrupt, and no other in its place.
  func trigger(_ line: InterruptLine) { signal(place(line).map { vectors[$0] } ?? pin) }

  /// nil for the pin.
  private func place(_ line: InterruptLine) -> Int? {
    switch line {
    case .pin: return nil
    case .msi(let index):
      precondition(index < InterruptLines.msiMax)
      return msixCount + index
    case .msix(let index):
      precondition(index < msixCount)
      return index
    }
  }

  private func signal(_ descriptor: Int32) {
    guard descriptor >= 0 else { return }
    var one: UInt64 = 1
    // An eventfd that is already signalled to the brim has told the host enough. Where the host has left it blocking the
    // write waits, until `Shard` interrupts it.
    _ = write(descriptor, &one, 8)
  }
}
