import Events

/// An event as a probe emitted it, with the bytes after it. Any bytes yield a valid event of the trace or nil.
struct RawEvent {
  /// CLOCK_MONOTONIC, nanoseconds.
  let time: UInt64
  /// Events that its CPU has lost so far.
  let lost: UInt64
  /// Origin of the event.
  let origin: Origin
  /// Its time is set by the caller, who knows the trace's clock.
  let record: Record
  /// The bytes after the record.
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

/// The owner of a kernel stream.
struct Origin: Hashable, Sendable {
  enum Role: UInt8, Sendable {
    case target = 0
    case host = 1
  }
  let role: Role
  /// A target's controller identifier, or the instance of the host's driver.
  let controller: UInt16
  /// Distinguishes successive owners of the same number.
  var generation: UInt8 = 0

  /// Before a Connect command assigns an identifier.
  static let noController: UInt16 = 0xffff
}
