import EventTable

/// A kind of event with its fields by name, as against the `Record` that holds them.
public protocol RecordedEvent: Sendable {
  static var kind: EventKind { get }
  /// What two events of this kind must agree in, one of them recorded and the other of a replay: all but what the world
  /// decides, and times.
  static var compared: RecordMask { get }

  var time: UInt64 { get set }
  /// Of a record of this kind.
  init(_ record: Record)
  /// Without what follows it.
  var record: Record { get }
}

/// An event of one command.
public protocol CommandEvent: RecordedEvent {
  /// The submission queue's identifier.
  var qid: UInt16 { get }
  var cid: UInt16 { get }
}

/// Bits of a record's places that count.
public struct RecordMask: Sendable {
  let flags: UInt8
  let qid: UInt16
  let cid: UInt16
  let a: UInt64
  let b: UInt64

  @inline(__always)
  init(flags: UInt8, qid: UInt16, cid: UInt16, a: UInt64, b: UInt64) {
    (self.flags, self.qid, self.cid, self.a, self.b) = (flags, qid, cid, a, b)
  }

  /// Whether two records of one kind agree in them.
  @inline(__always)
  public func agree(_ one: Record, _ other: Record) -> Bool {
    one.kind == other.kind && (one.flags ^ other.flags) & flags == 0 && (one.qid ^ other.qid) & qid == 0
      && (one.cid ^ other.cid) & cid == 0 && (one.a ^ other.a) & a == 0 && (one.b ^ other.b) & b == 0
  }
}

extension Record {
  @inline(__always)
  public func `is`(_ kind: EventKind) -> Bool { self.kind == kind.rawValue }
}

extension EventKind {
  public var description: EventDescription { descriptions[Int(rawValue)]! }

  /// The kind of that name, as `dump --event` takes it.
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

/// Where an event was seen.
public enum Source: UInt8, CaseIterable, Sendable {
  case engine = 1
  case host = 2
  case kernel = 3
}
