import EventTable
import Events

/// Location of a field's bytes in an event, counted from its record's first byte; the tail begins at 32.
public struct FieldLayout: Equatable, Sendable {
  public let name: String
  /// Offset in the record, in bytes.
  public let offset: Int
  /// 1, 2, 4 or 8 bytes, little-endian.
  public let width: Int
  public let unit: FieldUnit

  /// The field's value in an event given as bytes including its tail.
  public func value(in event: UnsafeRawPointer) -> UInt64 { event.number(at: offset, width: width) }
}

/// A trace's description of one kind of event, which lets a reader decode it without a table of its own.
public struct KindLayout: Equatable, Sendable {
  /// `EventKind.rawValue`, or a kind unknown to this program.
  public let kind: UInt8
  public let name: String
  /// In column order.
  public let fields: [FieldLayout]
  /// Slots of 32 bytes that always follow the record.
  public let fixedTailSlots: Int
  /// `bLow` bytes follow the record if bit 0x80 of `flags` is set.
  public let carriesBytes: Bool

  /// Offset of the 16-bit queue identifier, if its events have one.
  var queueOffset: Int? { fields.first { ($0.name == "qid" || $0.name == "cqid") && $0.width == 2 }?.offset }

  /// Bytes of a record and its fixed tail.
  var stride: Int { Record.size * (1 + fixedTailSlots) }
}

/// The kinds of event in a trace and their columns, as described by the trace itself.
public struct TraceSchema: Equatable, Sendable {
  /// Ascending by kind.
  public let kinds: [KindLayout]
  private let index: [UInt8]

  init(kinds: [KindLayout]) {
    self.kinds = kinds
    var index = [UInt8](repeating: 255, count: 256)
    for (position, layout) in kinds.enumerated() { index[Int(layout.kind)] = UInt8(position) }
    self.index = index
  }

  /// The schema that this program writes: the event table.
  public static let current = TraceSchema(
    kinds: EventKind.allCases.sorted { $0.rawValue < $1.rawValue }.map { KindLayout($0.description) })

  public subscript(kind: UInt8) -> KindLayout? {
    let position = Int(index[Int(kind)])
    return position < kinds.count ? kinds[position] : nil
  }
}

extension KindLayout {
  init(_ event: EventDescription) {
    kind = event.kind
    name = event.name
    fixedTailSlots = event.fixedTailBytes / Record.size
    carriesBytes = event.carriesBytes
    fields = event.fields.map {
      let (offset, width) = $0.place.location
      return FieldLayout(name: $0.name, offset: offset, width: width, unit: $0.unit)
    }
  }
}

/// Encoded as in the header of a trace.
extension TraceSchema {
  static let tailSlotsMax = 64

  func append(to buffer: inout ByteBuffer) {
    buffer.append(UInt16(kinds.count))
    for kind in kinds {
      buffer.append(kind.kind)
      buffer.append(UInt8(kind.carriesBytes ? 1 : 0))
      buffer.append(UInt8(kind.fixedTailSlots))
      buffer.append(UInt8(kind.fields.count))
      buffer.append(UInt8(kind.name.utf8.count))
      buffer.append(utf8: kind.name)
      for field in kind.fields {
        buffer.append(UInt16(field.offset))
        buffer.append(UInt8(field.width))
        buffer.append(field.unit.rawValue)
        buffer.append(UInt8(field.name.utf8.count))
        buffer.append(utf8: field.name)
      }
    }
  }

  init(_ reader: inout ByteReader) throws(Malformed) {
    let count = Int(try reader.read(UInt16.self))
    guard count < 255 else { throw Malformed("its schema has too many kinds") }
    var kinds: [KindLayout] = []
    for _ in 0..<count {
      let kind = try KindLayout(&reader)
      guard kind.kind > kinds.last?.kind ?? 0 else { throw Malformed("the kinds of its schema are not in order") }
      kinds.append(kind)
    }
    self.init(kinds: kinds)
  }
}

extension KindLayout {
  fileprivate init(_ reader: inout ByteReader) throws(Malformed) {
    kind = try reader.read()
    carriesBytes = try reader.read(UInt8.self) & 1 != 0
    fixedTailSlots = Int(try reader.read(UInt8.self))
    let fieldCount = Int(try reader.read(UInt8.self))
    name = try reader.text(Int(try reader.read(UInt8.self)))
    guard fixedTailSlots <= TraceSchema.tailSlotsMax, !carriesBytes || fixedTailSlots == 0 else {
      throw Malformed("its schema describes an event that is too long")
    }
    // No byte belongs to two fields, so a chunk's columns are never longer than its events.
    var taken = [Bool](repeating: false, count: Record.size * (1 + fixedTailSlots))
    for reserved in [0...8, 14...15] { for byte in reserved { taken[byte] = true } }
    var fields: [FieldLayout] = []
    for _ in 0..<fieldCount {
      let field = try FieldLayout(&reader)
      guard [1, 2, 4, 8].contains(field.width), field.offset + field.width <= taken.count,
        !taken[field.offset..<field.offset + field.width].contains(true)
      else { throw Malformed("its schema puts a field where it cannot be") }
      for byte in field.offset..<field.offset + field.width { taken[byte] = true }
      fields.append(field)
    }
    self.fields = fields
  }
}

extension FieldLayout {
  fileprivate init(_ reader: inout ByteReader) throws(Malformed) {
    offset = Int(try reader.read(UInt16.self))
    width = Int(try reader.read(UInt8.self))
    // A unit added by a newer version reads as a number.
    unit = FieldUnit(rawValue: try reader.read()) ?? .number
    name = try reader.text(Int(try reader.read(UInt8.self)))
  }
}
