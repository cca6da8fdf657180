/// One event as it lies in a ring: 32 bytes, and behind it `tail` further slots of 32 bytes that carry its bytes (a
/// submission queue entry, a PRP list, a checkpoint).
///
/// What `flags`, `a` and `b` hold depends on the kind: `EventKind.description` is the definition. Places that a kind
/// does not name are zero. They are read and written by the kind's type, `Event.Fetch` and so on; only what makes records
/// that no type would (tests, fuzzing, made-up load) imports `@_spi(Places)`.
public struct Record: Equatable, Sendable {
  /// In a ring: cycle counter ticks. In a trace and everything read from one: nanoseconds since the trace began.
  public var time: UInt64
  /// `EventKind.rawValue`; a reader may meet kinds that it does not know.
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

  /// Two 32-bit values side by side, as `a` and `b` hold them.
  @_spi(Places) public static func pair(_ low: UInt32, _ high: UInt32) -> UInt64 { UInt64(low) | UInt64(high) << 32 }
}
