/// How the events of a trace are laid out: this version's own layout, or the one that a file brings with it.
struct Schema {
  struct Kind {
    var kind: UInt8
    var name: String
    var fields: [Field]
    /// Slots that always follow the record.
    var fixedTail: Int
    var carriesBytes: Bool
  }

  struct Field {
    var name: String
    var place: FieldPlace
    var isSpan: Bool
  }

  /// By raw value.
  private(set) var kinds = [Kind?](repeating: nil, count: 256)

  /// What this version writes.
  static let own: Schema = {
    var schema = Schema()
    for kind in EventKind.allCases {
      let description = kind.description
      schema.kinds[Int(kind.rawValue)] = Kind(
        kind: kind.rawValue, name: description.name,
        fields: description.fields.map { Field(name: $0.name, place: $0.place, isSpan: $0.unit == .span) },
        fixedTail: description.fixedTailBytes / Record.size, carriesBytes: description.carriesBytes)
    }
    return schema
  }()

  // MARK: Bytes

  func encode(into writer: inout ByteWriter) {
    let present = kinds.compactMap { $0 }
    writer.put(UInt16(present.count))
    for kind in present {
      writer.put(kind.kind)
      writer.put(UInt8(kind.carriesBytes ? 1 : 0))
      writer.put(UInt8(kind.fixedTail))
      writer.put(kind.name)
      writer.put(UInt8(kind.fields.count))
      for field in kind.fields {
        let (code, offset, width) = field.place.code
        for value in [code, offset, width, field.isSpan ? 1 : 0] { writer.put(value) }
        writer.put(field.name)
      }
    }
  }

  init() {}

  /// - Throws: `.damaged` when it describes what cannot be.
  init(_ reader: inout ByteReader) throws(TraceError) {
    for _ in 0..<(try reader.get(UInt16.self)) {
      let kind = try reader.get(UInt8.self)
      let carriesBytes = try reader.get(UInt8.self) == 1
      let fixedTail = Int(try reader.get(UInt8.self))
      let name = try reader.getText()
      var fields: [Field] = []
      for _ in 0..<(try reader.get(UInt8.self)) {
        let code = try reader.get(UInt8.self)
        let (offset, width, span) = (try reader.get(UInt8.self), try reader.get(UInt8.self), try reader.get(UInt8.self))
        guard let place = FieldPlace(code: code, offset: offset, width: width, tailBytes: fixedTail * Record.size)
        else { throw TraceError(.damaged, "its description of events makes no sense") }
        fields.append(Field(name: try reader.getText(), place: place, isSpan: span == 1))
      }
      kinds[Int(kind)] = Kind(
        kind: kind, name: name, fields: fields, fixedTail: fixedTail, carriesBytes: carriesBytes)
    }
  }
}

extension FieldPlace {
  /// As the file has it: what, and for a place in the tail where and how wide.
  var code: (UInt8, UInt8, UInt8) {
    switch self {
    case .flags: (0, 0, 0)
    case .qid: (1, 0, 0)
    case .cid: (2, 0, 0)
    case .a: (3, 0, 0)
    case .aLow: (4, 0, 0)
    case .aHigh: (5, 0, 0)
    case .b: (6, 0, 0)
    case .bLow: (7, 0, 0)
    case .bHigh: (8, 0, 0)
    case .tail(let offset, let width): (9, UInt8(offset), UInt8(width))
    }
  }

  init?(code: UInt8, offset: UInt8, width: UInt8, tailBytes: Int) {
    switch code {
    case 0: self = .flags
    case 1: self = .qid
    case 2: self = .cid
    case 3: self = .a
    case 4: self = .aLow
    case 5: self = .aHigh
    case 6: self = .b
    case 7: self = .bLow
    case 8: self = .bHigh
    case 9:
      guard [1, 2, 4, 8].contains(width), Int(offset) + Int(width) <= tailBytes else { return nil }
      self = .tail(offset: Int(offset), width: Int(width))
    default: return nil
    }
  }

  /// Bytes before the value counted from the record's beginning, and the value's width.
  var location: (offset: Int, width: Int) {
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
    case .tail(let offset, let width): (Record.size + offset, width)
    }
  }
}

/// Puts integers and texts one behind the other, little-endian.
struct ByteWriter {
  private(set) var bytes: [UInt8] = []

  mutating func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  /// At most 65535 bytes of UTF-8.
  mutating func put(_ text: String) {
    let utf8 = text.utf8.prefix(Int(UInt16.max))
    put(UInt16(utf8.count))
    bytes.append(contentsOf: utf8)
  }

  mutating func put(_ more: UnsafeRawBufferPointer) { bytes.append(contentsOf: more) }
}

/// Takes integers and texts from bytes that are not trusted.
struct ByteReader {
  private let bytes: UnsafeRawBufferPointer
  private(set) var offset = 0

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  mutating func get<Value: FixedWidthInteger & BitwiseCopyable>(_: Value.Type = Value.self) throws(TraceError) -> Value
  {
    let taken = try take(MemoryLayout<Value>.size)
    return Value(littleEndian: taken.loadUnaligned(as: Value.self))
  }

  mutating func getText() throws(TraceError) -> String {
    String(decoding: try take(Int(try get(UInt16.self))), as: UTF8.self)
  }

  mutating func take(_ count: Int) throws(TraceError) -> UnsafeRawBufferPointer {
    guard count >= 0, bytes.count - offset >= count else { throw TraceError(.damaged, "it ends too early") }
    defer { offset += count }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
  }
}
