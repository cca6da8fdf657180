import Events
import Trace

/// An event as bpf/emit.h puts it into a ring buffer: `struct event`, and the bytes behind it. Whatever the bytes
/// are, it is an event of the trace or nil.
struct RawEvent {
  /// CLOCK_MONOTONIC, nanoseconds.
  let time: UInt64
  /// Events that its CPU had no room for, ever.
  let lost: UInt64
  /// Whose event it is.
  let origin: Origin
  /// Its time is left to whoever knows the trace's clock.
  let record: Record
  /// What follows the record.
  let bytes: UnsafeRawBufferPointer

  static let headerSize = 48

  init?(_ raw: UnsafeRawBufferPointer) {
    guard raw.count >= RawEvent.headerSize else { return nil }
    func load<T: FixedWidthInteger>(_ offset: Int, as type: T.Type) -> T {
      T(littleEndian: raw.loadUnaligned(fromByteOffset: offset, as: type))
    }
    guard let kind = EventKind(rawValue: raw[38]), raw[44] <= 1 else { return nil }
    let length = Int(load(40, as: UInt32.self))
    guard length <= raw.count - RawEvent.headerSize else { return nil }
    time = load(0, as: UInt64.self)
    lost = load(8, as: UInt64.self)
    let role: Origin.Role = raw[44] == 0 ? .target : .host
    origin = Origin(role: role, controller: load(36, as: UInt16.self), generation: raw[45])
    var record = Record(
      kind: kind, flags: raw[39], qid: load(32, as: UInt16.self), cid: load(34, as: UInt16.self),
      a: load(16, as: UInt64.self), b: load(24, as: UInt64.self))
    let description = kind.description
    if description.carriesBytes {
      // The record itself says how many.
      record.flags = length > 0 ? record.flags | EventFlag.bytes : record.flags & ~EventFlag.bytes
      record.bLow = UInt32(length)
    } else if length != description.fixedTailBytes {
      return nil
    }
    self.record = record
    bytes = UnsafeRawBufferPointer(rebasing: raw[RawEvent.headerSize..<RawEvent.headerSize + length])
  }
}

/// Whose events a stream of the kernel has.
struct Origin: Hashable, Sendable {
  enum Role: UInt8, Sendable {
    case target = 0
    case host = 1
  }
  let role: Role
  /// A target's controller identifier, or the instance of the host's driver.
  let controller: UInt16
  /// Which of those that have had the number.
  var generation: UInt8 = 0

  /// Before a Connect command has given it an identifier.
  static let noController: UInt16 = 0xffff
}
