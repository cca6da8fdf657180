import Events
import Trace

/// Checks the driver's interrupts: they must use the vector of their completion queue, and only if the host enabled
/// them. Queues whose creation is not in the recording are not checked.
struct DriverInterrupts {
  private struct Queue {
    let vector: UInt16
    let isEnabled: Bool
    /// When the first unannounced entry was posted; nil if all are announced.
    var unannouncedSince: UInt64?
    /// It has already been reported.
    var isReported = false
  }

  private var table: [UInt16: Queue] = [:]
  /// The recording has interrupts: without their probe, their absence proves nothing.
  private var sawAny = false

  /// Coalescing delays an interrupt by 25.5 ms at most (Base 2.1, 5.1.25.1.6), a busy machine by more; nanoseconds.
  private static let timeoutNs: UInt64 = 1_000_000_000

  var queues: [UInt16] { table.keys.sorted() }

  mutating func create(_ cqid: UInt16, vector: UInt16, isEnabled: Bool) {
    table[cqid] = Queue(vector: vector, isEnabled: isEnabled)
  }

  /// The controller has lost all its queues.
  mutating func deleteAll() { table = [:] }

  mutating func delete(_ cqid: UInt16) { table[cqid] = nil }

  /// Events may be lost: announcements are unknown.
  mutating func forgetEntries() {
    for cqid in table.keys { table[cqid]?.unannouncedSince = nil }
  }

  /// The driver raised an interrupt, or tried to.
  /// - Returns: the fault, if any.
  mutating func raised(_ interrupt: Event.Interrupt) -> String? {
    sawAny = true
    let vector = UInt16(truncatingIfNeeded: interrupt.vector)
    guard let queue = table[interrupt.cqid] else { return nil }
    let late = overdue(interrupt.cqid, at: interrupt.time)
    table[interrupt.cqid]?.unannouncedSince = nil
    guard queue.isEnabled else {
      return
        "the driver raised an interrupt (vector \(vector)), although the host has disabled interrupts of the queue (IEN 0)"
    }
    // `pci_epc_raise_irq` has no vector for a pin.
    let mayBePin = interrupt.type == .intx || (interrupt.type == .unknown && vector == 0)
    guard vector == queue.vector || mayBePin else {
      return "the driver raised vector \(vector) instead of the queue's vector \(queue.vector)"
    }
    return late
  }

  /// The driver posted an entry.
  /// - Returns: the fault of the interrupts for earlier entries, if any.
  mutating func posted(_ entry: Event.Completion) -> String? {
    guard let queue = table[entry.cqid], queue.isEnabled else { return nil }
    if queue.unannouncedSince == nil { table[entry.cqid]?.unannouncedSince = entry.time }
    return overdue(entry.cqid, at: entry.time)
  }

  /// The fault if no interrupt has followed an entry for too long.
  mutating func overdue(_ cqid: UInt16, at time: UInt64) -> String? {
    guard sawAny, let queue = table[cqid], let since = queue.unannouncedSince, !queue.isReported,
      time > since, time - since > DriverInterrupts.timeoutNs
    else { return nil }
    table[cqid]?.isReported = true
    return "the driver raised no interrupt for an entry that it posted \(time - since) ns ago"
  }
}
