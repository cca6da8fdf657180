import NVMe
import Target

/// Replacements for the values of an engine's state that tell who used it, and for what.
public protocol StateMapping: AnyObject {
  func map(_ subsystem: Subsystem) -> Subsystem
  func map(_ namespace: Namespace) -> Namespace
  func map(_ host: HostIdentifier) -> HostIdentifier
  func map(reservationKey: UInt64) -> UInt64
  /// A time that a host has set, in milliseconds since 1970.
  func map(timestampMs: UInt64) -> UInt64
  func map(_ sqe: SubmissionEntry, qid: QueueID) -> SubmissionEntry
  /// The first of some logical blocks that a command names.
  func map(slba: UInt64, blocks: UInt64) -> UInt64
}

extension Controller {
  /// The engine whose state `encode` wrote, with other values.
  public static func decode(_ bytes: UnsafeRawBufferPointer, _ mapping: any StateMapping) throws(CheckpointError)
    -> Controller
  {
    var state = StateReader(bytes)
    return try decode(&state, mapping)
  }

  mutating func replaceValues(_ mapping: any StateMapping) throws(CheckpointError) {
    try target.replaceValues(mapping)
    for slot in 0..<Controller.slots where commands[slot].state != .free {
      commands[slot].sqe = mapping.map(commands[slot].sqe, qid: commands[slot].qid)
      guard commands[slot].state == .executing else { continue }
      let request = executions[slot].request
      guard request.opcode.hasStartingBlock, request.qid != .admin else { continue }
      executions[slot].request.slba = mapping.map(slba: request.slba, blocks: UInt64(request.blocks))
    }
  }
}

extension Target {
  fileprivate mutating func replaceValues(_ mapping: any StateMapping) throws(CheckpointError) {
    var next: UInt32 = 1
    while let namespace = namespaces.first(from: next) {
      let mapped = mapping.map(namespace)
      guard mapped.isValid, mapped.nsid == namespace.nsid else { throw .invalid }
      namespaces.remove(namespace.nsid)
      namespaces.insert(mapped)
      next = namespace.nsid + 1
    }
    features.hostIdentifier = mapping.map(features.hostIdentifier)
    features.timestampMs = features.timestampMs.map { mapping.map(timestampMs: $0) }
    for place in errors.entries.indices {
      let entry = errors.entries[place]
      guard entry.qid != .admin, IOOpcode(rawValue: entry.opcode)?.hasStartingBlock == true else { continue }
      // The command's other blocks are not known.
      errors.entries[place].lba = mapping.map(slba: entry.lba, blocks: 0)
    }
    reservations = Reservations(
      byNamespace: reservations.byNamespace.mapValues { reservation in
        var mapped = reservation
        mapped.holder = mapping.map(reservation.holder)
        mapped.registrants = reservation.registrants.map {
          Reservation.Registrant(host: mapping.map($0.host), key: mapping.map(reservationKey: $0.key))
        }
        return mapped
      })
  }
}
