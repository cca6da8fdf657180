import EventTable
import Text

extension Record {
  /// The value of a field in the record itself; nil for a field in its tail.
  public func value(of field: EventField) -> UInt64? {
    let (offset, width) = field.place.location
    guard offset + width <= Record.size else { return nil }
    return withUnsafeBytes(of: self) { $0.baseAddress!.number(at: offset, width: width) }
  }

  /// The queue in its field `qid` or `cqid`; nil if its kind has neither.
  public var queue: UInt16? { kindsWithQueue[Int(kind)] ? qid : nil }

  /// The command identifier in its field `cid`; nil if its kind has none.
  public var command: UInt16? { kindsWithCommand[Int(kind)] ? cid : nil }

  /// The event in one line, without its time and its tail: `doorbell flags=0x0 qid=1 value=17 poll=35`.
  public func text() -> String {
    guard let description = event?.description else { return "unknown-\(kind)" }
    var words = [description.name]
    for field in description.fields {
      if let value = value(of: field) { words.append("\(field.name)=\(field.text(value))") }
    }
    return words.joined(separator: " ")
  }
}

extension EventKind {
  /// Whether its events have a field `qid` or `cqid`, and a field `cid`.
  public var hasQueue: Bool { kindsWithQueue[Int(rawValue)] }
  public var hasCommand: Bool { kindsWithCommand[Int(rawValue)] }
}

extension EventField {
  /// A value of this field, in hexadecimal if its unit requires it.
  public func text(_ value: UInt64) -> String {
    unit == .hexadecimal ? value.hex : String(value)
  }
}

extension UnsafePointer<Record> {
  /// The value of a field, in the record or in its tail; nil if the tail is too short.
  public func value(of field: EventField) -> UInt64? {
    let (offset, width) = field.place.location
    guard offset + width <= (1 + Int(pointee.tail)) * Record.size else { return nil }
    return UnsafeRawPointer(self).number(at: offset, width: width)
  }
}

extension UnsafeRawPointer {
  /// A number of `width` bytes (1, 2, 4 or 8), little-endian, as records and traces have it.
  @inline(__always)
  public func number(at offset: Int, width: Int) -> UInt64 {
    switch width {
    case 1: UInt64(load(fromByteOffset: offset, as: UInt8.self))
    case 2: UInt64(UInt16(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
    case 4: UInt64(UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    default: UInt64(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
  }
}

/// By kind.
private let kindsWithQueue = kinds { $0.place == .qid && ["qid", "cqid"].contains($0.name) }
private let kindsWithCommand = kinds { $0.place == .cid && $0.name == "cid" }

/// The kinds with such a field.
private func kinds(_ isMeant: (EventField) -> Bool) -> [Bool] {
  var table = [Bool](repeating: false, count: 256)
  for event in eventTable where event.fields.contains(where: isMeant) { table[Int(event.kind)] = true }
  return table
}
