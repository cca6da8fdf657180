import EventTable
import Text

extension Record {
  /// The value of a field that lies in the record itself; nil for one in its tail.
  public func value(of field: EventField) -> UInt64? {
    switch field.place {
    case .flags: UInt64(flags)
    case .qid: UInt64(qid)
    case .cid: UInt64(cid)
    case .a: a
    case .aLow: UInt64(aLow)
    case .aHigh: UInt64(aHigh)
    case .b: b
    case .bLow: UInt64(bLow)
    case .bHigh: UInt64(bHigh)
    case .tail: nil
    }
  }

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

extension EventField {
  /// A value of this field, in hexadecimal where that is how one reads it.
  public func text(_ value: UInt64) -> String {
    unit == .hexadecimal ? value.hex : String(value)
  }
}

extension UnsafePointer<Record> {
  /// The value of a field, in the record or in its tail; nil where the tail does not reach.
  public func value(of field: EventField) -> UInt64? {
    guard case .tail(let offset, let width) = field.place else { return pointee.value(of: field) }
    guard Int(pointee.tail) * Record.size >= offset + width else { return nil }
    let tail = UnsafeRawPointer(self + 1) + offset
    switch width {
    case 1: return UInt64(tail.loadUnaligned(as: UInt8.self))
    case 2: return UInt64(tail.loadUnaligned(as: UInt16.self))
    case 4: return UInt64(tail.loadUnaligned(as: UInt32.self))
    default: return tail.loadUnaligned(as: UInt64.self)
    }
  }
}
