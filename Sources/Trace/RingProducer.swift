import CPlatform
import Events
import Glibc
import Platform

/// What a producer does when its ring is full. No wait outlasts the recorder: once it has ended, events are lost.
public enum FullRing: Sendable {
  /// Wait for room, and record the wait.
  case wait
  /// Wait for room without recording the wait, for a producer of copied events: it delays no recorded thread.
  case waitSilently
  /// Drop events, count them as lost, and resume at the next checkpoint.
  case drop
}

/// The writing side of a ring. One thread owns it.
public struct RingProducer: ~Copyable {
  public let ring: Ring
  private let slots: UnsafeMutablePointer<Record>
  private let mask: UInt64
  /// Slots written so far, published after each event.
  private var head: UInt64
  /// Slots that may be written before the consumer's counter must be read again.
  private var limit: UInt64
  private let whenFull: FullRing
  private var lost: UInt64 = 0
  /// The latest wait for room, until its event is written: after the event that waited, so that times never go back.
  private var wait: Event.RingWait?
  /// The recorder has ended: nothing is written any more.
  private var isAbandoned = false

  public init(_ ring: Ring, whenFull: FullRing) {
    self.ring = ring
    self.whenFull = whenFull
    slots = ring.slots
    mask = ring.capacity - 1
    head = ring.head.pointee.load(ordering: .relaxed)
    limit = ring.tail.pointee.load(ordering: .acquiring) &+ ring.capacity
  }

  deinit {
    if let wait, !isAbandoned {
      slots[Int(head & mask)] = wait.record
      ring.head.pointee.store(head &+ 1, ordering: .releasing)
    }
    ring.finish()
  }

  /// Slots written so far.
  public var position: UInt64 { head }

  /// Events are lost until a checkpoint finds room.
  public var isLosingEvents: Bool { lost != 0 }

  /// Append one event without a tail.
  @inline(__always)
  public mutating func append(_ record: Record) {
    if !reserve(1) { return }
    slots[Int(head & mask)] = record
    publish(1)
  }

  /// Append one event followed by bytes; sets `record.tail` from their count and pads the last slot with zeros.
  public mutating func append(_ record: Record, _ bytes: UnsafeRawBufferPointer) {
    let tail = (bytes.count + Record.size - 1) / Record.size
    precondition(UInt64(tail) < ring.capacity / 2 && tail <= Int(UInt16.max), "an event must fit its ring")
    if !reserve(UInt64(tail) + 1) { return }
    var first = record
    first.tail = UInt16(tail)
    let target = slots + Int(head & mask)
    target.pointee = first
    if tail > 0 {
      target[tail] = Record(padding: ())
      UnsafeMutableRawPointer(target + 1).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
    }
    publish(UInt64(tail) + 1)
  }

  /// Append a record followed by the 64 bytes of an SQE: two slots, copied with a size known to the compiler.
  @inline(__always)
  public mutating func append<Entry: BitwiseCopyable>(_ record: Record, entry: Entry) {
    if !reserve(3) { return }
    var first = record
    first.tail = 2
    let target = slots + Int(head & mask)
    target.pointee = first
    UnsafeMutableRawPointer(target + 1).storeBytes(of: entry, as: Entry.self)
    publish(3)
  }

  /// Resume after lost events: append a gap that counts them, then the checkpoint. Does nothing while there is no room.
  public mutating func resume(time: UInt64, checkpoint: Record, _ bytes: UnsafeRawBufferPointer) {
    precondition(whenFull == .drop)
    let needed = UInt64((bytes.count + Record.size - 1) / Record.size) + 2
    guard freeSlots() >= max(needed, ring.capacity / 2) else { return }
    let events = lost
    lost = 0
    append(Event.Gap(time: time, events: events).record)
    append(checkpoint, bytes)
  }

  /// End a producer that drops: append a gap that counts the events lost since its last checkpoint.
  public mutating func finish(time: UInt64) {
    guard lost != 0, awaitRoom(1) else { return }
    let events = lost
    lost = 0
    append(Event.Gap(time: time, events: events).record)
  }

  @inline(__always)
  private mutating func publish(_ count: UInt64) {
    head &+= count
    ring.head.pointee.store(head, ordering: .releasing)
  }

  @inline(__always)
  private mutating func reserve(_ count: UInt64) -> Bool {
    if head &+ count <= limit && lost == 0 { return true }
    return reserveSlowly(count)
  }

  private mutating func freeSlots() -> UInt64 {
    limit = ring.tail.pointee.load(ordering: .acquiring) &+ ring.capacity
    return limit &- head
  }

  /// Interval at which a wait checks whether the recorder still runs.
  private static let checkNs: UInt64 = 100_000_000

  /// - Returns: false when the recorder has ended.
  private mutating func awaitRoom(_ count: UInt64) -> Bool {
    var backoff = Backoff.writing
    var nextCheck = Clock.monotonicNs() &+ RingProducer.checkNs
    while freeSlots() < count {
      backoff.pause()
      let now = Clock.monotonicNs()
      if now < nextCheck { continue }
      nextCheck = now &+ RingProducer.checkNs
      if ring.isAbandoned { return abandon() }
    }
    return true
  }

  /// Keep the content of the ring for a repair: append nothing more, even if it would fit.
  private mutating func abandon() -> Bool {
    isAbandoned = true
    limit = head
    return false
  }

  @inline(never)
  private mutating func reserveSlowly(_ count: UInt64) -> Bool {
    if isAbandoned { return false }
    noteWait()
    if whenFull == .drop {
      if lost == 0 && freeSlots() >= count { return true }
      lost += 1
      return false
    }
    if whenFull == .waitSilently { return awaitRoom(count) }
    // One slot more, for the event that records the wait.
    if freeSlots() > count { return true }
    let begin = Clock.ticks()
    guard awaitRoom(count &+ 1) else { return false }
    let end = Clock.ticks()
    wait = Event.RingWait(time: end, span: end &- begin)
    // The next event comes here again, and finds the slot that is reserved now.
    limit = head &+ count
    return true
  }

  /// Write the event of the latest wait.
  private mutating func noteWait() {
    guard let wait else { return }
    self.wait = nil
    slots[Int(head & mask)] = wait.record
    publish(1)
  }
}

extension Record {
  /// A slot of zeros.
  fileprivate init(padding: Void) {
    self = unsafeBitCast((0, 0, 0, 0) as (UInt64, UInt64, UInt64, UInt64), to: Record.self)
  }
}
