/// An event as a kernel probe writes it to its ring buffer, followed by `length` bytes: `struct event` of bpf/emit.h,
/// field by field.
public struct ProbeRecord: BitwiseCopyable, Sendable {
  /// CLOCK_MONOTONIC, nanoseconds.
  public let time: UInt64
  /// Events that its CPU has lost so far.
  public let lost: UInt64
  let a: UInt64
  let b: UInt64
  let qid: UInt16
  let cid: UInt16
  /// A target's controller identifier, or the instance of the host's driver.
  public let controller: UInt16
  let kind: UInt8
  let flags: UInt8
  public let length: UInt32
  /// 0 a target, 1 a host's driver.
  public let role: UInt8
  /// Distinguishes successive owners of the controller's number.
  public let generation: UInt8
  let padding: UInt16

  public static let size = 48

  /// - Returns: nil if `raw` is too short.
  public init?(_ raw: UnsafeRawBufferPointer) {
    assert(MemoryLayout<ProbeRecord>.size == ProbeRecord.size)
    guard raw.count >= ProbeRecord.size else { return nil }
    self = raw.loadUnaligned(as: ProbeRecord.self)
  }

  /// The event without its time, which uses another clock than the trace; nil if its kind or length violates the event
  /// table.
  public var record: Record? {
    guard let event = EventKind(rawValue: kind) else { return nil }
    var record = Record(kind: event, flags: flags, qid: qid, cid: cid, a: a, b: b)
    let description = event.description
    if description.carriesBytes {
      // The record itself contains the number.
      record.flags = length > 0 ? flags | Record.carriesBytesFlag : flags & ~Record.carriesBytesFlag
      record.bLow = length
    } else if Int(length) != description.fixedTailBytes {
      return nil
    }
    return record
  }
}
