import Events

/// An event as a probe emitted it, with the bytes behind it. Whatever the bytes are, it is an event of the trace or nil.
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

  init?(_ raw: UnsafeRawBufferPointer) {
    guard let event = ProbeRecord(raw), let role = Origin.Role(rawValue: event.role), let record = event.record,
      Int(event.length) <= raw.count - ProbeRecord.size
    else { return nil }
    (time, lost, self.record) = (event.time, event.lost, record)
    origin = Origin(role: role, controller: event.controller, generation: event.generation)
    bytes = UnsafeRawBufferPointer(rebasing: raw[ProbeRecord.size...].prefix(Int(event.length)))
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
