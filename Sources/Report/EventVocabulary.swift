import Analysis
import EventTable
import Events
import Expressions
import NVMe
import Text

/// A value of an event that an expression can name.
public enum EventValue: Hashable, Sendable {
  case time, event, source, stream
  /// The queue and the command that it names.
  case qid, cid
  case opcode, status, more, doNotRetry, sqid, sqhd, phase
  case slba, lastBlock, blocks
  case feature, logPage, structure
  case register
  /// By its index in `RegisterFieldPlaces.all`.
  case registerField(Int)
  /// By its index in `FieldPlaces.all`.
  case field(Int)
}

extension Vocabulary where Place == EventValue {
  /// What expressions say of events: what `dump` prints of them.
  public static let events: Vocabulary = {
    // The first of two definitions of a name counts.
    Vocabulary(common) + Vocabulary(meanings) + Vocabulary(fields) + Vocabulary(registerFields)
  }()

  private static let common: [Definition] = [
    .init("time", .time, "When it was recorded, since the trace began.", .time),
    .init(
      "event", .choice(Choices(EventKind.allCases.map { ($0.description.name, UInt64($0.rawValue)) })),
      "Its kind.", .event),
    .init(
      "source", .choice(Choices(Source.allCases.map { ("\($0)", UInt64($0.rawValue)) })), "Who recorded it.", .source),
    .init("stream", .number, "The number of its stream within its source.", .stream),
    .init("qid", .number, "Its field qid or cqid, as with --qid.", .qid),
    .init("cid", .number, "The command that it names, as with --cid.", .cid),
  ]

  private static let meanings: [Definition] = [
    .init("opcode", .choice(.opcodes), "Of a command; a number means admin and I/O commands.", .opcode),
    .init(
      "status", .choice(.statuses), "Status Code Type × 256 + Status Code, or their name.", .status),
    .init("more", .flag, "The status has the bit More.", .more),
    .init("do-not-retry", .flag, "The status has the bit Do Not Retry.", .doNotRetry),
    .init("sqid", .number, "Submission queue of a completion.", .sqid),
    .init("sqhd", .number, "SQ head pointer of a completion.", .sqhd),
    .init("phase", .number, "Phase tag of a completion.", .phase),
    .init(
      "slba", .number,
      "First logical block of an I/O command. With in: the command uses at least one block of the range.",
      .slba, last: .lastBlock),
    .init("blocks", .number, "Logical blocks of an I/O command.", .blocks),
    .init("feature", .choice(names(NVMeName.feature)), "Of a Get or Set Features.", .feature),
    .init("log-page", .choice(names(NVMeName.logPage)), "Of a Get Log Page.", .logPage),
    .init("structure", .choice(names(NVMeName.cns)), "CNS of an Identify.", .structure),
    .init(
      "register", .choice(Choices(RegisterLayout.all.map { ($0.name, $0.offset) })),
      "The register that an access reaches, by name or offset.", .register),
  ]

  private static let fields: [Definition] = FieldPlaces.all.enumerated().map { index, field in
    .init(field.name, field.kind, field.meaning, .field(index))
  }

  private static let registerFields: [Definition] = RegisterFieldPlaces.all.enumerated().map { index, field in
    let registers = field.places.map(\.register.name).joined(separator: " or ")
    return .init(
      field.name, .number, "Field of \(registers), when the whole register is accessed.", .registerField(index))
  }

  private static func names(_ name: (UInt8) -> String?) -> Choices {
    Choices((0...UInt8.max).compactMap { number in name(number).map { ($0, UInt64(number)) } }, numberMask: 0xff)
  }
}

/// The places of all fields and flags of one name, in the events that have one.
struct FieldPlaces: Sendable {
  let name: String
  let kind: ValueKind
  let meaning: String
  /// By kind of event; a width of 0 where it has none.
  fileprivate let places: [(offset: Int, width: Int, mask: UInt64)]

  /// In the order of the event table.
  static let all: [FieldPlaces] = {
    var names: [String] = []
    var found: [String: [(event: EventDescription, field: EventField, mask: UInt64)]] = [:]
    func add(_ name: String, _ event: EventDescription, _ field: EventField, _ mask: UInt64) {
      if found[name] == nil { names.append(name) }
      found[name, default: []].append((event, field, mask))
    }
    for event in eventTable {
      for field in event.fields {
        add(field.name, event, field, .max)
        // That bytes follow is of no interest.
        for bit in field.bits where bit.value != Record.carriesBytesFlag {
          add(bit.name.hyphenated, event, field, UInt64(bit.value))
        }
      }
    }
    return names.map { FieldPlaces($0, found[$0]!) }
  }()

  private init(_ name: String, _ found: [(event: EventDescription, field: EventField, mask: UInt64)]) {
    self.name = name
    var places = [(offset: Int, width: Int, mask: UInt64)](repeating: (0, 0, 0), count: 256)
    for (event, field, mask) in found {
      let (offset, width) = field.place.location
      places[Int(event.kind)] = (offset, width, mask)
    }
    self.places = places
    let (field, mask) = (found[0].field, found[0].mask)
    let events = found.map(\.event.name)
    if mask != .max {
      kind = .flag
      meaning = "Of \(events.joined(separator: ", "))."
      return
    }
    meaning = events.count == 1 ? "Of \(events[0]): \(field.meaning)" : "Of \(events.joined(separator: ", "))."
    kind = FieldPlaces.kind(of: found.map(\.field))
  }

  /// A number where the events disagree.
  private static func kind(of fields: [EventField]) -> ValueKind {
    let values = fields.flatMap(\.values)
    if !values.isEmpty {
      return .choice(Choices(values.map { ($0.name.hyphenated, UInt64($0.value)) }))
    }
    return switch Set(fields.map(\.unit)) {
    case [.bytes]: .bytes
    case [.span], [.nanoseconds]: .time
    default: .number
    }
  }

  /// The value in a record; nil if its kind has no such field.
  @inline(__always)
  func value(in record: UnsafePointer<Record>) -> UInt64? {
    let (offset, width, mask) = places[Int(record.pointee.kind)]
    guard width > 0, offset + width <= (1 + Int(record.pointee.tail)) * Record.size else { return nil }
    return UnsafeRawPointer(record).number(at: offset, width: width) & mask
  }
}

/// The registers with a field of one name.
struct RegisterFieldPlaces: Sendable {
  let name: String
  let places: [(register: RegisterLayout, field: RegisterLayout.Field)]

  static let all: [RegisterFieldPlaces] = {
    var names: [String] = []
    for register in RegisterLayout.all {
      for field in register.fields where !names.contains(field.name) { names.append(field.name) }
    }
    return names.map { name in
      RegisterFieldPlaces(
        name: name,
        places: RegisterLayout.all.flatMap { register in
          register.fields.filter { $0.name == name }.map { (register, $0) }
        })
    }
  }()

  /// The field in the value of a register; nil for other registers and for an access to a part of one.
  func value(_ access: Event.RegisterWrite) -> UInt64? {
    for (register, field) in places where register.offset == access.offset && register.width == UInt64(access.width) {
      return field.value(in: access.value)
    }
    return nil
  }
}
