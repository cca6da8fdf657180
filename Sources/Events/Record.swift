/// An event as stored in a ring: 32 bytes, followed by `tail` slots of 32 bytes with its bytes (a submission queue
/// entry, a PRP list, a checkpoint).
///
/// The meaning of `flags`, `a` and `b` depends on the kind, as `EventKind.description` defines. Places that a kind does
/// not name are zero. The kind's type, such as `Event.Fetch`, reads and writes them; only code that makes records no
/// type would make (tests, fuzzing, synthetic load) imports `@_spi(Places)`.
public struct Record: Equatable, Sendable {
  /// In a ring: ticks. In a trace: nanoseconds since the trace began.
  public var time: UInt64
  /// `EventKind.rawValue`; a reader may encounter unknown kinds.
  public var kind: UInt8
  @_spi(Places) public var flags: UInt8
  public var qid: UInt16
  public var cid: UInt16
  /// Slots of 32 bytes that follow.
  public var tail: UInt16
  @_spi(Places) public var a: UInt64
  @_spi(Places) public var b: UInt64

  public static let size = 32

  @_spi(Places) public init(
    time: UInt64 = 0, kind: EventKind, flags: UInt8 = 0, qid: UInt16 = 0, cid: UInt16 = 0, tail: UInt16 = 0,
    a: UInt64 = 0, b: UInt64 = 0
  ) {
    self.time = time
    self.kind = kind.rawValue
    self.flags = flags
    self.qid = qid
    self.cid = cid
    self.tail = tail
    self.a = a
    self.b = b
  }

  public var event: EventKind? { EventKind(rawValue: kind) }

  @_spi(Places) public var aLow: UInt32 {
    get { UInt32(truncatingIfNeeded: a) }
    set { a = a & 0xffff_ffff_0000_0000 | UInt64(newValue) }
  }
  @_spi(Places) public var aHigh: UInt32 {
    get { UInt32(truncatingIfNeeded: a >> 32) }
    set { a = a & 0xffff_ffff | UInt64(newValue) << 32 }
  }
  @_spi(Places) public var bLow: UInt32 {
    get { UInt32(truncatingIfNeeded: b) }
    set { b = b & 0xffff_ffff_0000_0000 | UInt64(newValue) }
  }
  @_spi(Places) public var bHigh: UInt32 {
    get { UInt32(truncatingIfNeeded: b >> 32) }
    set { b = b & 0xffff_ffff | UInt64(newValue) << 32 }
  }

  /// Two adjacent 32-bit values, as stored in `a` and `b`.
  @_spi(Places) public static func pair(_ low: UInt32, _ high: UInt32) -> UInt64 { UInt64(low) | UInt64(high) << 32 }
}
