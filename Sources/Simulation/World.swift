import Glibc
import NVMe

/// What the simulated host and the port share: the host's memory, the doorbells, what both know of the queues, and the
/// first thing that went wrong.
final class World {
  static let address: UInt64 = 1 << 32
  static let memoryBytes = 8 << 20
  static let queuesMax = 5

  let time = VirtualTime()
  let memory: UnsafeMutableRawPointer
  let doorbells: UnsafeMutablePointer<UInt32>
  /// By queue identifier.
  let queues: UnsafeMutablePointer<QueueFacts>
  /// What the host has lost of its memory, for the moment.
  var hole: Range<UInt64>?
  /// Interrupts on their way, by the time at which they arrive.
  var interrupts: [(dueNs: UInt64, vector: UInt16)] = []
  /// What has happened that must not; the first counts.
  private(set) var violation: String?

  /// What a queue pair looks like from outside.
  struct QueueFacts: BitwiseCopyable {
    var submissionBase: UInt64 = 0
    /// Entries; 0 where the queue does not exist.
    var submissionEntries: UInt32 = 0
    var completionBase: UInt64 = 0
    var completionEntries: UInt32 = 0
    /// Entries that the host has announced, and that the engine has fetched, since the queue was created.
    var announced: UInt64 = 0
    var fetched: UInt64 = 0
    /// Entries that the engine has posted, and that the host has freed.
    var posted: UInt64 = 0
    var freed: UInt64 = 0
    /// Interrupts that a fault has kept from the host.
    var interruptsLost = 0

    /// The next entry to be fetched.
    var head: UInt32 { submissionEntries == 0 ? 0 : UInt32(fetched % UInt64(submissionEntries)) }
  }

  init() {
    memory = calloc(1, World.memoryBytes)!
    doorbells = .allocate(capacity: 2 * Doorbell.pairs)
    doorbells.initialize(repeating: 0, count: 2 * Doorbell.pairs)
    queues = .allocate(capacity: World.queuesMax)
    queues.initialize(repeating: QueueFacts(), count: World.queuesMax)
  }

  deinit {
    free(memory)
    doorbells.deallocate()
    queues.deallocate()
    time.deallocate()
  }

  func fail(_ what: @autoclosure () -> String) {
    if violation == nil { violation = what() }
  }

  /// Where `count` bytes at an address lie; nil where they are not the host's.
  @inline(__always)
  func place(_ address: UInt64, _ count: Int) -> UnsafeMutableRawPointer? {
    let offset = address &- World.address
    guard offset < UInt64(World.memoryBytes), UInt64(count) <= UInt64(World.memoryBytes) - offset else { return nil }
    if let hole, address < hole.upperBound, address + UInt64(count) > hole.lowerBound { return nil }
    return memory + Int(offset)
  }
}
