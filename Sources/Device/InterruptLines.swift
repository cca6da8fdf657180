import CUring
import Platform

/// One of a function's interrupts.
enum InterruptLine: Hashable {
  /// INTx.
  case pin
  case msi(Int)
  case msix(Int)
}

/// Signals one event descriptor of the host without ever blocking. The function owns it.
struct InterruptSignal: BitwiseCopyable, @unchecked Sendable {
  private let signal: OpaquePointer

  init() throws(SystemError) {
    var error: Int32 = 0
    guard let signal = nvmepf_signal_create(&error) else { throw SystemError(code: error) }
    self.signal = signal
  }

  func destroy() { nvmepf_signal_destroy(signal) }

  /// Signal this descriptor from now on; -1 for none. The previous one is no longer signalled when this returns.
  /// - Returns: 0, or an errno.
  func attach(_ descriptor: Int32) -> Int32 { -nvmepf_signal_attach(signal, descriptor) }

  func raise() { nvmepf_signal_raise(signal) }
}

/// The signals that carry interrupts to the host. The ones that it has requested determine the kind in use.
///
/// The engine's thread owns them, so that a descriptor is never signalled after its removal.
struct InterruptLines: ~Copyable {
  static let msiMax = 32

  /// By vector: those of MSI-X, then those of MSI.
  private let vectors: UnsafeMutablePointer<InterruptSignal?>
  private let msixCount: Int
  private var pin: InterruptSignal?
  /// The host was signalled, or has masked INTx, and will unmask it.
  private var pinIsMasked = false
  /// Interrupt Disable of the command register (PCIe Base 6.0, 7.5.1.1.3).
  var pinIsDisabled = false

  init(vectors msixCount: Int) {
    self.msixCount = msixCount
    vectors = .allocate(capacity: msixCount + InterruptLines.msiMax)
    vectors.initialize(repeating: nil, count: msixCount + InterruptLines.msiMax)
  }

  deinit { vectors.deallocate() }

  /// Use this signal for an interrupt from now on; nil for none.
  mutating func set(_ line: InterruptLine, _ signal: InterruptSignal?) {
    if let place = place(line) {
      vectors[place] = signal
    } else {
      pin = signal
      pinIsMasked = false
    }
  }

  mutating func removeAll() {
    vectors.update(repeating: nil, count: msixCount + InterruptLines.msiMax)
    set(.pin, nil)
  }

  mutating func raise(_ vector: UInt16) {
    let vector = Int(vector)
    if vector < msixCount, let signal = vectors[vector] {
      signal.raise()
    } else if vector < InterruptLines.msiMax, let signal = vectors[msixCount + vector] {
      signal.raise()
    } else {
      raisePin()
    }
  }

  /// INTx is a level: it is signalled once, and again only if the host has unmasked it and it is still asserted.
  mutating func raisePin() {
    guard let pin, !pinIsMasked, !pinIsDisabled else { return }
    pinIsMasked = true
    pin.raise()
  }

  mutating func maskPin() { pinIsMasked = true }

  mutating func unmaskPin() { pinIsMasked = false }

  /// Signal exactly this interrupt.
  func trigger(_ line: InterruptLine) {
    let signal = if let place = place(line) { vectors[place] } else { pin }
    signal?.raise()
  }

  /// Nil for INTx.
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
}
