import NVMe

/// A completion queue as the host has it, where a fault makes it differ from the engine's: an entry that the engine has
/// posted may be missing, late or doubled here. The port numbers the entries, tags their phase, and tells the engine of
/// freed entries in the engine's own numbers.
struct HostCompletionQueue {
  /// Number of entries; 0 while it is not known.
  private(set) var size: UInt32 = 0
  /// PCI address of its first entry; nil before the first completion.
  var base: UInt64?
  /// The next entry to write, and the phase tag that makes it visible.
  private(set) var tail: UInt32 = 0
  private(set) var phase = true
  /// The host's head doorbell.
  private(set) var head: UInt32 = 0
  /// Entries written.
  private(set) var written: UInt64 = 0
  /// By entry: whether the engine has posted it, as opposed to a duplicate.
  private var isPosted: [Bool] = []
  /// Entries that the engine has posted and the host does not hold any more, or never got.
  private var freed: UInt64 = 0
  /// Completions that wait to be written.
  var held: [Held] = []
  /// The vector of its last interrupt.
  var vector: UInt16?
  /// Entries written since that.
  var unannounced: UInt32 = 0

  struct Held {
    let cqe: CompletionEntry
    var dueNs: UInt64
    /// It is due when the next entry is written.
    let waitsForNext: Bool
    let kind: UInt8
    /// 0 if it waits only for room.
    let rule: UInt32
  }

  init() {}

  init(size: UInt32) {
    self.size = size
    isPosted = [Bool](repeating: false, count: Int(size))
  }

  var isKnown: Bool { size >= 2 }
  /// Whether it has been filled once.
  var hasWrapped: Bool { written >= UInt64(size) }
  private var outstanding: UInt32 { tail >= head ? tail - head : tail + size - head }
  /// Entries that can be written.
  var room: UInt32 { size - 1 - outstanding }
  var next: UInt32 { tail + 1 == size ? 0 : tail + 1 }
  /// Address of the entry at the tail.
  var address: PCIAddress { PCIAddress((base ?? 0) &+ UInt64(tail) * UInt64(CompletionEntry.size)) }
  /// The head as the engine numbers its entries.
  var engineHead: UInt32 { UInt32(freed % UInt64(size)) }

  /// The entry at the tail is used.
  mutating func advance(isPosted: Bool) {
    self.isPosted[Int(tail)] = isPosted
    tail = next
    if tail == 0 { phase.toggle() }
    written += 1
    unannounced = min(unannounced + 1, size)
  }

  /// The host gets no entry for a completion that the engine has posted.
  mutating func skip() { freed += 1 }

  /// The host wrote its head doorbell.
  /// - Returns: false for a value that frees entries which were not written.
  mutating func free(to value: UInt32) -> Bool {
    guard value < size else { return false }
    let count = value >= head ? value - head : value + size - head
    guard count <= outstanding else { return false }
    for place in 0..<count where isPosted[Int((head + place) % size)] { freed += 1 }
    head = value
    return true
  }
}
