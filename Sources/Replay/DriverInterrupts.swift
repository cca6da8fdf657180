import Events
import Trace

/// What the driver's interrupts must be: on the vector of their completion queue, and only where the host has enabled
/// them. Queues of which the recording does not have the creation are not judged.
struct DriverInterrupts {
  private struct Queue {
    let vector: UInt16
    let isEnabled: Bool
    /// When the first entry was posted that no interrupt has announced; nil where there is none.
    var unannouncedSince: UInt64?
    /// It has been reported already.
    var isReported = false
  }

  private var table: [UInt16: Queue] = [:]
  /// The recording has interrupts: without the probe for them, missing ones prove nothing.
  private var sawAny = false

  /// Coalescing delays an interrupt by 25.5 ms at most (Base 2.1, 5.1.25.1.6), a busy machine by more; nanoseconds.
  private static let patience: UInt64 = 1_000_000_000

  var queues: [UInt16] { table.keys.sorted() }

  mutating func create(_ cqid: UInt16, vector: UInt16, isEnabled: Bool) {
    table[cqid] = Queue(vector: vector, isEnabled: isEnabled)
  }

  /// The controller has no queues any more.
  mutating func deleteAll() { table = [:] }

  mutating func delete(_ cqid: UInt16) { table[cqid] = nil }

  /// Events may be missing: nobody knows what has been announced.
  mutating func forgetEntries() {
    for cqid in table.keys { table[cqid]?.unannouncedSince = nil }
  }

  /// The driver raised an interrupt, or tried to.
  /// - Returns: what is wrong with it.
  mutating func raised(_ interrupt: Event.Interrupt) -> String? {
    sawAny = true
    let vector = UInt16(truncatingIfNeeded: interrupt.vector)
    guard let queue = table[interrupt.cqid] else { return nil }
    let late = overdue(interrupt.cqid, at: interrupt.time)
    table[interrupt.cqid]?.unannouncedSince = nil
    guard queue.isEnabled else {
      return "the driver raised an interrupt (vector \(vector)), though the host has disabled the queue's (IEN 0)"
    }
    // `pci_epc_raise_irq` has no vector for a pin.
    let mayBePin = interrupt.type == .intx || (interrupt.type == .unknown && vector == 0)
    guard vector == queue.vector || mayBePin else {
      return "the driver raised vector \(vector), the queue's is \(queue.vector)"
    }
    return late
  }

  /// The driver posted an entry.
  /// - Returns: what is wrong with the interrupts for those before it.
  mutating func posted(_ entry: Event.Completion) -> String? {
    guard let queue = table[entry.cqid], queue.isEnabled else { return nil }
    if queue.unannouncedSince == nil { table[entry.cqid]?.unannouncedSince = entry.time }
    return overdue(entry.cqid, at: entry.time)
  }

  /// What is wrong where no interrupt has followed an entry for long.
  mutating func overdue(_ cqid: UInt16, at time: UInt64) -> String? {
    guard sawAny, let queue = table[cqid], let since = queue.unannouncedSince, !queue.isReported,
      time > since, time - since > DriverInterrupts.patience
    else { return nil }
    table[cqid]?.isReported = true
    return "the driver raised no interrupt for an entry that it posted \(time - since) ns ago"
  }
}
