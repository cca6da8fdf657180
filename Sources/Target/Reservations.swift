import NVMe

/// Reservation Type (Base 2.1, figure "Reservation Type").
public enum ReservationType: UInt8, BitwiseCopyable, Sendable {
  case writeExclusive = 1
  case exclusiveAccess = 2
  case writeExclusiveRegistrantsOnly = 3
  case exclusiveAccessRegistrantsOnly = 4
  case writeExclusiveAllRegistrants = 5
  case exclusiveAccessAllRegistrants = 6

  /// Whether other hosts may not read either.
  var excludesReads: Bool { rawValue % 2 == 0 }
  /// Whether every registrant has the holder's rights.
  var includesRegistrants: Bool { rawValue >= 3 }
  /// Whether every registrant is a holder.
  var isHeldByAll: Bool { rawValue >= 5 }
}

/// The reservation of one namespace (Base 2.1, 8.1.24). It survives resets, but not the process.
public struct Reservation: Equatable, Sendable {
  /// Maximum registered hosts.
  public static let registrantsMax = 16

  /// A host registered with a namespace.
  public struct Registrant: Equatable, Sendable {
    public var host: HostIdentifier
    public var key: UInt64

    public init(host: HostIdentifier, key: UInt64) {
      self.host = host
      self.key = key
    }
  }

  /// Number of changes so far.
  public var generation: UInt32 = 0
  public var registrants: [Registrant] = []
  public var type: ReservationType?
  /// The holder; if all registrants are holders, the one that acquired it.
  public var holder = HostIdentifier()
  public init() {}

  func key(of host: HostIdentifier) -> UInt64? { registrants.first { $0.host == host }?.key }

  func holds(_ host: HostIdentifier) -> Bool {
    guard let type else { return false }
    return type.isHeldByAll ? key(of: host) != nil : holder == host
  }

  /// Whether a host may read or write (Base 2.1, figure "Command Behavior in the Presence of a Reservation").
  func permits(_ host: HostIdentifier, writing: Bool) -> Bool {
    guard let type, !holds(host) else { return true }
    if type.includesRegistrants, key(of: host) != nil { return true }
    return !writing && !type.excludesReads
  }

  mutating func remove(_ host: HostIdentifier) {
    registrants.removeAll { $0.host == host }
    guard let type else { return }
    if type.isHeldByAll ? registrants.isEmpty : holder == host { release() }
  }

  mutating func release() {
    type = nil
    holder = HostIdentifier()
  }
}

/// The reservations of all namespaces.
public struct Reservations: Equatable, Sendable {
  /// By namespace identifier; omits namespaces whose reservations were never used.
  public package(set) var byNamespace: [UInt32: Reservation] = [:]

  public init(byNamespace: [UInt32: Reservation] = [:]) { self.byNamespace = byNamespace }

  mutating func forget(_ nsid: UInt32) { byNamespace[nsid] = nil }
}

extension Target {
  /// Bytes of data of a reservation command.
  public static func reservationBytes(_ opcode: IOOpcode) -> Int {
    switch opcode {
    case .reservationRegister, .reservationAcquire: 16
    case .reservationRelease: 8
    default: 0
    }
  }

  /// Whether the reservation of its namespace permits a request.
  @inline(never)
  func checkReservation(_ request: IORequest) throws(Status) {
    guard let reservation = reservations.byNamespace[request.nsid] else { return }
    let isFree =
      switch request.opcode {
      case .read, .compare, .verify: reservation.permits(features.hostIdentifier, writing: false)
      case .write, .writeZeroes, .datasetManagement, .copy, .flush:
        reservation.permits(features.hostIdentifier, writing: true)
      default: true
      }
    guard isFree else { throw .reservationConflict }
  }

  /// Execute any reservation command except Report (Base 2.1, 7.6 to 7.9).
  /// - Parameter data: `reservationBytes` of them.
  public mutating func reserve(_ sqe: SubmissionEntry, _ opcode: IOOpcode, _ data: UnsafeRawBufferPointer)
    throws(Status)
  {
    // A host that has not identified itself cannot reserve.
    guard !features.hostIdentifier.isZero else { throw .hostIdentifierInconsistentFormat }
    let first = data.loadUnaligned(as: UInt64.self)
    let second = data.count == 16 ? data.loadUnaligned(fromByteOffset: 8, as: UInt64.self) : 0
    var reservation = reservations.byNamespace[sqe.nsid] ?? Reservation()
    switch opcode {
    case .reservationRegister: try register(sqe.cdw10, current: first, new: second, &reservation)
    case .reservationAcquire: try acquire(sqe, current: first, preempted: second, &reservation)
    case .reservationRelease: try release(sqe, current: first, &reservation)
    default: throw .invalidOpcode
    }
    reservations.byNamespace[sqe.nsid] = reservation
  }

  /// Reservation Register (Base 2.1, 7.7).
  private func register(_ cdw10: UInt32, current: UInt64, new: UInt64, _ reservation: inout Reservation) throws(Status)
  {
    let host = features.hostIdentifier
    // Change Persist Through Power Loss: it cannot be set.
    guard cdw10 >> 30 != 3, cdw10 >> 30 != 1 else { throw .invalidField }
    let ignoresKey = cdw10 & 1 << 3 != 0
    let place = reservation.registrants.firstIndex { $0.host == host }
    switch cdw10 & 7 {
    case 0:
      if let place {
        guard reservation.registrants[place].key == new else { throw .reservationConflict }
        return
      }
      guard reservation.registrants.count < Reservation.registrantsMax else { throw .reservationConflict }
      reservation.registrants.append(.init(host: host, key: new))
    case 1:
      guard let place, ignoresKey || reservation.registrants[place].key == current else { throw .reservationConflict }
      reservation.remove(host)
    case 2:
      guard let place, ignoresKey || reservation.registrants[place].key == current else { throw .reservationConflict }
      reservation.registrants[place].key = new
    default: throw .invalidField
    }
    reservation.generation &+= 1
  }

  /// Reservation Acquire (Base 2.1, 7.6).
  private func acquire(
    _ sqe: SubmissionEntry, current: UInt64, preempted: UInt64, _ reservation: inout Reservation
  ) throws(Status) {
    let host = features.hostIdentifier
    guard let type = ReservationType(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10 >> 8)), sqe.cdw10 & 1 << 3 == 0
    else { throw .invalidField }
    guard reservation.key(of: host) == current else { throw .reservationConflict }
    switch sqe.cdw10 & 7 {
    case 0:
      if let held = reservation.type {
        guard held == type, reservation.holds(host) else { throw .reservationConflict }
        return
      }
      (reservation.type, reservation.holder) = (type, host)
    case 1, 2: try preempt(host, type, preempted, &reservation)
    default: throw .invalidField
    }
  }

  private func preempt(
    _ host: HostIdentifier, _ type: ReservationType, _ key: UInt64, _ reservation: inout Reservation
  ) throws(Status) {
    let holderKey = reservation.key(of: reservation.holder)
    let isHeldByAll = reservation.type?.isHeldByAll == true
    // A key of zero preempts all others if all registrants are holders.
    guard key != 0 || isHeldByAll else { throw .invalidField }
    let victims = reservation.registrants.filter { $0.host != host && ($0.key == key || (isHeldByAll && key == 0)) }
    let takesOver = reservation.type != nil && (isHeldByAll ? key == 0 : key == holderKey)
    guard takesOver || !victims.isEmpty else { throw .reservationConflict }
    reservation.registrants.removeAll { victims.contains($0) }
    if takesOver {
      (reservation.type, reservation.holder) = (type, host)
    }
    reservation.generation &+= 1
  }

  /// Reservation Release (Base 2.1, 7.9).
  private func release(_ sqe: SubmissionEntry, current: UInt64, _ reservation: inout Reservation)
    throws(Status)
  {
    let host = features.hostIdentifier
    guard sqe.cdw10 & 1 << 3 == 0 else { throw .invalidField }
    guard reservation.key(of: host) == current else { throw .reservationConflict }
    switch sqe.cdw10 & 7 {
    case 0:
      // A host that is not a holder releases nothing.
      guard reservation.holds(host) else { return }
      guard reservation.type?.rawValue == UInt8(truncatingIfNeeded: sqe.cdw10 >> 8) else { throw .invalidField }
      reservation.release()
    case 1:
      reservation.registrants = []
      reservation.release()
      reservation.generation &+= 1
    default: throw .invalidField
    }
  }

  /// Reservation Report (Base 2.1, 7.8): the Reservation Status data structure from its beginning.
  /// - Parameter bytes: `identifyBytes` of them, enough for all registrants in either format.
  public func reportReservation(_ sqe: SubmissionEntry, into bytes: UnsafeMutableRawBufferPointer) throws(Status) {
    let isExtended = sqe.cdw11 & 1 != 0
    let layout = Layout(bytes)
    let reservation = reservations.byNamespace[sqe.nsid] ?? Reservation()
    // The short format has room for only 8 bytes of a host identifier.
    guard isExtended || reservation.registrants.allSatisfy({ $0.host.high == 0 }) else {
      throw .hostIdentifierInconsistentFormat
    }
    layout.put(reservation.generation, at: 0)
    layout.put(reservation.type?.rawValue ?? 0, at: 4)
    layout.put(UInt16(reservation.registrants.count), at: 5)
    for (index, registrant) in reservation.registrants.enumerated() {
      let at = isExtended ? 64 + 64 * index : 24 + 24 * index
      guard at + (isExtended ? 64 : 24) <= bytes.count else { return }
      layout.put(subsystem.controllerID, at: at)
      layout.put(UInt8(reservation.holds(registrant.host) ? 1 : 0), at: at + 2)
      if isExtended {
        layout.put(registrant.key, at: at + 8)
        layout.put(registrant.host.low, at: at + 16)
        layout.put(registrant.host.high, at: at + 24)
      } else {
        layout.put(registrant.host.low, at: at + 8)
        layout.put(registrant.key, at: at + 16)
      }
    }
  }
}
