import Events

/// The one reader of the kernel's streams: it knows whose events each of them has.
public struct KernelStreams {
  /// What a record is to whoever reads the streams.
  public enum Item {
    /// The stream has another owner, or more is known of its owner.
    case owner(StreamOwner)
    /// Whichever stream a gap stands in, what is missing may be of any owner.
    case gap(Event.Gap)
    case event(EventKind, StreamOwner)
  }

  /// By stream: who owns it now.
  public private(set) var owners: [UInt16: StreamOwner] = [:]

  public init() {}

  /// The next record of `stream`, in the order of the times of all of them.
  ///
  /// - Parameter tail: the bytes behind it.
  /// - Returns: nil where it is of an unknown kind, or nobody's.
  @inline(__always)
  public mutating func take(_ record: Record, tail: UnsafeRawBufferPointer, stream: UInt16) -> Item? {
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

/// Whose events a stream of the kernel has.
public struct StreamOwner: Hashable, Sendable {
  public enum Role: Sendable {
    case target, host
  }

  public let role: Role
  /// A target's controller identifier, or the nvme instance of a host's driver.
  public let number: UInt16
  /// Host: the identifier of the controller that it drives.
  public let cntlid: UInt16
  /// Of the subsystem; empty where it is not known.
  public let nqn: String

  /// The number of a target's stream whose events belong to no controller.
  public static let noController: UInt16 = 0xffff
  /// Subsystems' names are no longer (Base 2.1, 4.6).
  private static let nqnMax = 223

  init(_ origin: Event.Origin, _ tail: UnsafeRawBufferPointer) {
    role = origin.flags.contains(.host) ? .host : .target
    number = origin.controller
    cntlid = UInt16(truncatingIfNeeded: origin.cntlid)
    let length = origin.flags.contains(.bytes) ? min(Int(origin.length), tail.count, StreamOwner.nqnMax) : 0
    nqn = String(decoding: tail.prefix(length), as: UTF8.self)
  }

  @inline(__always)
  public func isTarget(_ controller: UInt16) -> Bool { role == .target && number == controller }

  @inline(__always)
  public func isHost(_ instance: UInt16) -> Bool { role == .host && number == instance }

  /// A host's driver that drives that controller of the subsystem.
  public func drives(_ controller: UInt16, of nqn: String?) -> Bool {
    role == .host && cntlid == controller && self.nqn == nqn
  }
}
