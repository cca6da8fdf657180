import Events
import Glibc
import Platform

/// The reading side of a ring. One thread owns it. It checks everything it reads, since another process wrote it.
public struct RingConsumer: ~Copyable {
  public let ring: Ring
  /// Slots freed.
  private var tail: UInt64

  public init(_ ring: Ring) {
    self.ring = ring
    tail = ring.tail.pointee.load(ordering: .relaxed)
  }

  /// The written slots that are not yet freed, contiguous, oldest first. Records stay in place until `free`.
  /// - Throws: `.damaged` if the counters contradict each other.
  public func available() throws(TraceError) -> UnsafeBufferPointer<Record> {
    let count = ring.head.pointee.load(ordering: .acquiring) &- tail
    guard count <= ring.capacity else { throw TraceError(.damaged, "the ring \(ring.path) contradicts itself") }
    return UnsafeBufferPointer(start: ring.slots + Int(tail & (ring.capacity - 1)), count: Int(count))
  }

  /// Slots freed so far.
  public var position: UInt64 { tail }

  /// Whether all events have been consumed.
  public var isEmpty: Bool { ring.head.pointee.load(ordering: .acquiring) == tail }

  /// Free all written slots. Returns their number.
  mutating func discard() -> UInt64 {
    let head = ring.head.pointee.load(ordering: .acquiring)
    let count = head &- tail
    tail = head
    ring.tail.pointee.store(tail, ordering: .releasing)
    return min(count, ring.capacity)
  }

  /// Return `count` of the oldest slots to the producer.
  public mutating func free(_ count: Int) {
    tail &+= UInt64(count)
    ring.tail.pointee.store(tail, ordering: .releasing)
  }

  /// Discard everything until the producer has finished: for measuring the cost of producing.
  public static func discard(_ ring: Ring) {
    var consumer = RingConsumer(ring)
    while !(ring.isClosed && consumer.isEmpty) {
      _ = consumer.discard()
      Backoff.sleep(ns: 1_000_000)
    }
  }
}
