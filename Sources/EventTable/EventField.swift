import Text

/// The place of a field in a `Record`.
public enum FieldPlace: Hashable, Sendable {
  case flags, qid, cid
  /// A whole 64-bit half of the record, or the lower or upper 32 bits of one.
  case a, aLow, aHigh, b, bLow, bHigh
  /// `width` bytes, little-endian, at `offset` in the slots after the record.
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

/// How a field is shown.
public enum FieldUnit: UInt8, Sendable {
  /// A number: a queue entry index, a count, an identifier.
  case number
  /// Flags, an address, a digest: shown in hexadecimal.
  case hexadecimal
  /// Bytes.
  case bytes
  /// A duration that ends at the event's time: ticks in a ring, nanoseconds in a trace.
  case span
  /// Nanoseconds of a clock, the same in ring and trace.
  case nanoseconds
}

/// A bit of a field, or one of its values, with its name in the sources.
public struct NamedValue: Sendable {
  public let value: UInt8
  public let name: String
  public let meaning: String
  /// An input: a replay takes it from the recording instead of comparing it.
  public let isAnswer: Bool

  init(_ value: UInt8, _ name: String, _ meaning: String, isAnswer: Bool = false) {
    self.value = value
    self.name = name
    self.meaning = meaning
    self.isAnswer = isAnswer
  }
}

/// A field of a kind of event: its place in the record, its meaning, and how it is shown.
public struct EventField: Sendable {
  public let name: String
  public let place: FieldPlace
  public let unit: FieldUnit
  public let meaning: String
  /// Of a set of flags: its bits.
  public private(set) var bits: [NamedValue] = []
  /// For a choice: the possible values.
  public private(set) var values: [NamedValue] = []
  /// An input: a replay takes it from the recording instead of comparing it. Spans are never compared.
  public private(set) var isAnswer = false

  init(_ name: String, _ place: FieldPlace, _ unit: FieldUnit = .number, _ meaning: String) {
    self.name = name
    self.place = place
    self.unit = unit
    self.meaning = meaning
    isAnswer = unit == .span
  }

  init(_ name: String, _ place: FieldPlace, _ meaning: String) { self.init(name, place, .number, meaning) }

  /// The record's `flags` as a set of bits, with further contents.
  static func flags(_ bits: NamedValue..., note: String? = nil) -> EventField {
    let texts = bits.map { $0.value.hex(digits: 2) + ": \($0.meaning)." }
    var field = EventField("flags", .flags, .hexadecimal, (texts + (note.map { [$0] } ?? [])).joined(separator: " "))
    field.bits = bits
    return field
  }

  /// A field with one of `values`; `meaning` adds to their own texts.
  static func choice(_ name: String, _ place: FieldPlace, _ values: NamedValue..., meaning: String? = nil) -> EventField
  {
    let text = values.map { "\($0.value): \($0.meaning)" }.joined(separator: ", ") + "."
    var field = EventField(name, place, .number, meaning ?? text)
    field.values = values
    return field
  }

  /// The same field as an input.
  var answered: EventField {
    var field = self
    field.isAnswer = true
    return field
  }
}

/// The definition of one kind of event. The event's type, the header of the kernel's probes, reader, writer, `dump` and
/// the format page derive from it.
public struct EventDescription: Sendable {
  /// Its number in the file format, which never changes its meaning.
  public let kind: UInt8
  public let name: String
  public let meaning: String
  /// In the order in which they are stored and shown. Places not listed here are zero.
  public let fields: [EventField]
  /// Length of the fixed tail in bytes (a multiple of 32), described by `.tail` fields.
  public let fixedTailBytes: Int
  /// It may carry bytes: `bLow` of them if bit 0x80 of its flags is set.
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
