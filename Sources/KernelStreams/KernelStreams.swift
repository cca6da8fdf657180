import Events

/// The one reader of the kernel's streams; it knows the owner of each.
public struct KernelStreams {
  /// The meaning of a record for a reader.
  public enum Item {
    /// The stream has a new owner, or more is known of its owner.
    case owner(StreamOwner)
    /// Lost events may belong to any owner, whichever stream contains the gap.
    case gap(Event.Gap)
    case event(EventKind, StreamOwner)
  }

  /// The current owner, by stream.
  public private(set) var owners: [UInt16: StreamOwner] = [:]

  /// - Parameter owners: those known already, for a reader that begins in the middle of a trace.
  public init(owners: [UInt16: StreamOwner] = [:]) { self.owners = owners }

  /// Process the next record of `stream`; records of all streams must come in order of time.
  ///
  /// - Parameter tail: the bytes after it.
  /// - Returns: nil if its kind is unknown, or its stream has no owner.
  @inline(__always)
  public mutating func ingest(_ record: Record, tail: UnsafeRawBufferPointer, stream: UInt16) -> Item? {
    guard let kind = record.event else { return nil }
    switch kind {
    case .origin:
      let owner = StreamOwner(Event.Origin(record), tail)
      owners[stream] = owner
      return .owner(owner)
    case .gap: return .gap(Event.Gap(record))
    default: return owners[stream].map { .event(kind, $0) }
    }
  }
}

/// The owner of a kernel stream.
public struct StreamOwner: Hashable, Sendable {
  /// The side that a stream records.
  public enum Role: Sendable {
    case target, host
  }

  public let role: Role
  /// A target's controller identifier, or the nvme instance of a host's driver.
  public let number: UInt16
  /// The CPU whose events the stream has.
  public let cpu: UInt16
  /// Host: identifier of the controller that it drives.
  public let cntlid: UInt16
  /// NQN of the subsystem; empty if unknown.
  public let nqn: String

  /// The number in streams of a target whose events belong to no controller.
  public static let noController: UInt16 = 0xffff
  /// Maximum length of a subsystem's NQN (Base 2.1, 4.6).
  private static let nqnMax = 223

  init(_ origin: Event.Origin, _ tail: UnsafeRawBufferPointer) {
    role = origin.flags.contains(.host) ? .host : .target
    number = origin.controller
    cpu = origin.cpu
    cntlid = UInt16(truncatingIfNeeded: origin.cntlid)
    let length = origin.flags.contains(.bytes) ? min(Int(origin.length), tail.count, StreamOwner.nqnMax) : 0
    nqn = String(decoding: tail.prefix(length), as: UTF8.self)
  }

  @inline(__always)
  public func isTarget(_ controller: UInt16) -> Bool { role == .target && number == controller }

  @inline(__always)
  public func isHost(_ instance: UInt16) -> Bool { role == .host && number == instance }

  /// Whether it is a host's driver of that controller of the subsystem.
  public func drives(_ controller: UInt16, of nqn: String?) -> Bool {
    role == .host && cntlid == controller && self.nqn == nqn
  }
}
