import EventTable

/// A kind of event with named fields, as opposed to the `Record` that stores them.
public protocol RecordedEvent: Sendable {
  static var kind: EventKind { get }
  /// The fields in which a recorded event and a replayed one must agree: all except inputs and times.
  static var compared: RecordMask { get }

  var time: UInt64 { get set }
  /// Reads a record of this kind.
  init(_ record: Record)
  /// The record without its tail.
  var record: Record { get }
}

/// An event of one command.
public protocol CommandEvent: RecordedEvent {
  /// The submission queue's identifier.
  var qid: UInt16 { get }
  var cid: UInt16 { get }
}

/// Masks of the compared bits, word by word as a record is stored.
@frozen
public struct RecordMask: Sendable {
  /// Kind, flags, qid and cid.
  @usableFromInline let head: UInt64
  @usableFromInline let a: UInt64
  @usableFromInline let b: UInt64

  @inlinable @inline(__always)
  init(flags: UInt8, qid: UInt16, cid: UInt16, a: UInt64, b: UInt64) {
    head = 0xff | UInt64(flags) << 8 | UInt64(qid) << 16 | UInt64(cid) << 32
    self.a = a
    self.b = b
  }

  /// Whether two records have the same kind and agree in these bits.
  @inlinable @inline(__always)
  public func agree(_ one: Record, _ other: Record) -> Bool {
    let (one, other) = (RecordMask.words(one), RecordMask.words(other))
    return (one.1 ^ other.1) & head | (one.2 ^ other.2) & a | (one.3 ^ other.3) & b == 0
  }

  /// Time; kind, flags, qid, cid and tail; a; b.
  @inlinable @inline(__always)
  static func words(_ record: Record) -> (UInt64, UInt64, UInt64, UInt64) {
    unsafeBitCast(record, to: (UInt64, UInt64, UInt64, UInt64).self)
  }
}

extension Record {
  @inline(__always)
  public func `is`(_ kind: EventKind) -> Bool { self.kind == kind.rawValue }
}

extension EventKind {
  public var description: EventDescription { descriptions[Int(rawValue)]! }

  /// The kind with that name, as given to `dump --event`.
  public init?(name: String) {
    guard let kind = EventKind.allCases.first(where: { $0.description.name == name }) else { return nil }
    self = kind
  }
}

/// By raw value.
private let descriptions: [EventDescription?] = {
  var table = [EventDescription?](repeating: nil, count: 256)
  for event in eventTable { table[Int(event.kind)] = event }
  return table
}()

/// Where an event was recorded.
public enum Source: UInt8, CaseIterable, Sendable {
  case engine = 1
  case host = 2
  case kernel = 3
}
