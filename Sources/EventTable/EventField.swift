import Text

/// Where a field of an event lies in its `Record`.
public enum FieldPlace: Hashable, Sendable {
  case flags, qid, cid
  /// A whole 64-bit half of the record, or the lower or upper 32 bits of one.
  case a, aLow, aHigh, b, bLow, bHigh
  /// `width` bytes, little-endian, at `offset` of the slots behind the record.
  case tail(offset: Int, width: Int)

  /// Offset from the record's first byte and width, both in bytes.
  public var location: (offset: Int, width: Int) {
    switch self {
    case .flags: (9, 1)
    case .qid: (10, 2)
    case .cid: (12, 2)
    case .a: (16, 8)
    case .aLow: (16, 4)
    case .aHigh: (20, 4)
    case .b: (24, 8)
    case .bLow: (24, 4)
    case .bHigh: (28, 4)
    case .tail(let offset, let width): (32 + offset, width)
    }
  }
}

/// How a field reads.
public enum FieldUnit: Sendable {
  /// A number: a queue entry index, a count, an identifier.
  case number
  /// Flags, an address, a digest: shown in hexadecimal.
  case hexadecimal
  /// Bytes.
  case bytes
  /// A stretch of time that ends at the event's own time: ticks in a ring, nanoseconds in a trace.
  case span
  /// Nanoseconds of a clock, the same in ring and trace.
  case nanoseconds
}

/// A bit of a field, or a value that it can have, with the name that sources know it by.
public struct NamedValue: Sendable {
  public let value: UInt8
  public let name: String
  public let meaning: String
  /// The world decides it: a replay takes it from the recording instead of comparing it.
  public let isAnswer: Bool

  init(_ value: UInt8, _ name: String, _ meaning: String, isAnswer: Bool = false) {
    self.value = value
    self.name = name
    self.meaning = meaning
    self.isAnswer = isAnswer
  }
}

/// A field of a kind of event: where it is in the record, what it means, and how it is shown.
public struct EventField: Sendable {
  public let name: String
  public let place: FieldPlace
  public let unit: FieldUnit
  public let meaning: String
  /// Of a set of flags: its bits.
  public private(set) var bits: [NamedValue] = []
  /// Of a choice: what it can be.
  public private(set) var values: [NamedValue] = []
  /// The world decides it: a replay takes it from the recording instead of comparing it. Spans never compare.
  public private(set) var isAnswer = false

  init(_ name: String, _ place: FieldPlace, _ unit: FieldUnit = .number, _ meaning: String) {
    self.name = name
    self.place = place
    self.unit = unit
    self.meaning = meaning
    isAnswer = unit == .span
  }

  init(_ name: String, _ place: FieldPlace, _ meaning: String) { self.init(name, place, .number, meaning) }

  /// The record's `flags` as a set of bits, and what else they hold.
  static func flags(_ bits: NamedValue..., note: String? = nil) -> EventField {
    let texts = bits.map { $0.value.hex(digits: 2) + ": \($0.meaning)." }
    var field = EventField("flags", .flags, .hexadecimal, (texts + (note.map { [$0] } ?? [])).joined(separator: " "))
    field.bits = bits
    return field
  }

  /// A field that holds one of `values`; `meaning` says what their own texts do not.
  static func choice(_ name: String, _ place: FieldPlace, _ values: NamedValue..., meaning: String? = nil) -> EventField
  {
    let text = values.map { "\($0.value): \($0.meaning)" }.joined(separator: ", ") + "."
    var field = EventField(name, place, .number, meaning ?? text)
    field.values = values
    return field
  }

  /// The same field, decided by the world.
  var answered: EventField {
    var field = self
    field.isAnswer = true
    return field
  }
}

/// The definition of one kind of event. The event's type, the header of the kernel's probes, reader, writer, `dump` and
/// the format page follow from it.
public struct EventDescription: Sendable {
  /// The file format's number for it, which never changes its meaning.
  public let kind: UInt8
  public let name: String
  public let meaning: String
  /// In the order in which they are stored and shown. Every place that is not named here is zero.
  public let fields: [EventField]
  /// Bytes that always follow the record (a multiple of 32), described by `.tail` fields.
  public let fixedTailBytes: Int
  /// Bytes may follow the record: `bLow` of them where bit 0x80 of its flags is set.
  public let carriesBytes: Bool

  init(
    _ kind: UInt8, _ name: String, _ meaning: String, fixedTailBytes: Int = 0, carriesBytes: Bool = false,
    _ fields: [EventField]
  ) {
    self.kind = kind
    self.name = name
    self.meaning = meaning
    self.fields = fields
    self.fixedTailBytes = fixedTailBytes
    self.carriesBytes = carriesBytes
  }
}
