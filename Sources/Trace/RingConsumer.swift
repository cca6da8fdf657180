import Events
import Glibc
import Platform

/// The reading side of a ring. One thread owns it. What it reads was written by another process and is checked.
public struct RingConsumer: ~Copyable {
  public let ring: Ring
  /// Slots freed.
  private var tail: UInt64

  public init(_ ring: Ring) {
    self.ring = ring
    tail = ring.tail.pointee.load(ordering: .relaxed)
  }

  /// The slots that are written and not yet freed, contiguous, oldest first. Records stay where they are until `free`.
  /// - Throws: `.damaged` when the counters contradict each other.
  public func available() throws(TraceError) -> UnsafeBufferPointer<Record> {
    let count = ring.head.pointee.load(ordering: .acquiring) &- tail
    guard count <= ring.capacity else { throw TraceError(.damaged, "the ring \(ring.path) contradicts itself") }
    return UnsafeBufferPointer(start: ring.slots + Int(tail & (ring.capacity - 1)), count: Int(count))
  }

  /// Slots freed so far.
  public var position: UInt64 { tail }

  public var isEmpty: Bool { ring.head.pointee.load(ordering: .acquiring) == tail }

  /// Free whatever is there. Returns how many slots that were.
  mutating func discard() -> UInt64 {
    let head = ring.head.pointee.load(ordering: .acquiring)
    let count = head &- tail
    tail = head
    ring.tail.pointee.store(tail, ordering: .releasing)
    return min(count, ring.capacity)
  }

  /// Give `count` of the oldest slots back to the producer.
  public mutating func free(_ count: Int) {
    tail &+= UInt64(count)
    ring.tail.pointee.store(tail, ordering: .releasing)
  }

  /// Throw away everything until the producer has finished: for measuring what producing costs.
  public static func discard(_ ring: Ring) {
    var consumer = RingConsumer(ring)
    while !(ring.isClosed && consumer.isEmpty) {
      _ = consumer.discard()
      Patience.sleep(ns: 1_000_000)
    }
  }
}
