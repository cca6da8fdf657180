import Endpoint
import NVMe
import Target
import Trace

/// Replaces what tells who recorded a trace, and of what: the same value always by the same other one.
///
/// It goes over a trace twice: first it collects the logical blocks, then it replaces.
final class Pseudonyms: StateMapping {
  private let keepsBlocks: Bool
  private var isCollecting = true
  private var blocks = BlockMap()
  /// Sectors of block devices, which lie elsewhere than the blocks of namespaces.
  private var sectors = BlockMap()
  private var words: [UInt64: UInt64] = [:]
  private var identifiers: [NamespaceUUID: NamespaceUUID] = [:]
  private var names: [[UInt8]: [UInt8]] = [:]
  /// Controllers of the kernel's target, which keep their numbers.
  var controllers: Set<UInt16> = []
  /// Why a value could not be collected.
  private(set) var error: TraceError?
  /// The commands of a checkpoint, while it is replaced.
  var onCommand: ((SubmissionEntry, QueueID) -> Void)?

  /// - Parameter keepsBlocks: leave logical blocks, and sizes of namespaces, as they are.
  init(keepsBlocks: Bool) { self.keepsBlocks = keepsBlocks }

  /// Everything is collected: replace from now on.
  func complete() throws(TraceError) {
    if let error { throw error }
    try blocks.complete()
    try sectors.complete()
    isCollecting = false
  }

  /// Distinct values of one kind that are kept in memory.
  private static let valuesMax = 1 << 20

  // MARK: Blocks

  func map(slba: UInt64, blocks count: UInt64) -> UInt64 { replace(slba, count, \.blocks) }

  func map(sector: UInt64, sectors count: UInt64) -> UInt64 { replace(sector, count, \.sectors) }

  private func replace(_ first: UInt64, _ count: UInt64, _ map: ReferenceWritableKeyPath<Pseudonyms, BlockMap>)
    -> UInt64
  {
    if keepsBlocks { return first }
    guard isCollecting else { return self[keyPath: map].map(first) }
    do throws(TraceError) { try self[keyPath: map].collect(first, blocks: count) } catch { self.error = error }
    return first
  }

  // MARK: Names

  /// The identity of an endpoint without a name.
  func map(_ subsystem: Subsystem) -> Subsystem {
    let other = Subsystem()
    var mapped = subsystem
    (mapped.nqn, mapped.serial, mapped.model) = (name(subsystem.nqn), other.serial, other.model)
    mapped.firmwareRevision = other.firmwareRevision
    (mapped.vendorID, mapped.subsystemVendorID) = (other.vendorID, other.subsystemVendorID)
    mapped.ieeeOUI = other.ieeeOUI
    return mapped
  }

  private func name(_ nqn: String) -> String { String(decoding: map(nqn: Array(nqn.utf8)), as: UTF8.self) }

  /// An NQN of a number.
  func map(nqn: [UInt8]) -> [UInt8] {
    if nqn.isEmpty { return [] }
    if let known = names[nqn] { return known }
    let name = Array("nqn.2014-08.org.nvmexpress:uuid:\(NamespaceUUID.derived(from: "subsystem \(names.count)"))".utf8)
    if names.count < Pseudonyms.valuesMax { names[nqn] = name }
    return name
  }

  func map(_ namespace: Namespace) -> Namespace {
    var mapped = namespace
    mapped.blocks = map(slba: namespace.blocks, blocks: 0)
    (mapped.uuid, mapped.nguid) = (map(namespace.uuid), map(namespace.nguid))
    return mapped
  }

  private func map(_ identifier: NamespaceUUID) -> NamespaceUUID {
    if identifier == .none { return .none }
    if let known = identifiers[identifier] { return known }
    let other = NamespaceUUID.derived(from: "namespace \(identifiers.count)")
    if identifiers.count < Pseudonyms.valuesMax { identifiers[identifier] = other }
    return other
  }

  // MARK: Values of a host

  func map(_ host: HostIdentifier) -> HostIdentifier {
    HostIdentifier(low: map(word: host.low), high: map(word: host.high))
  }

  func map(reservationKey: UInt64) -> UInt64 { map(word: reservationKey) }

  /// A part of a host identifier, or a reservation key. Zero means that there is none.
  func map(word: UInt64) -> UInt64 {
    if word == 0 { return 0 }
    if let known = words[word] { return known }
    let other = UInt64(words.count) + 1
    if words.count < Pseudonyms.valuesMax { words[word] = other }
    return other
  }

  /// The beginning of the year 2000.
  func map(timestampMs: UInt64) -> UInt64 { 946_684_800_000 }

  // MARK: Commands

  func map(_ sqe: SubmissionEntry, qid: QueueID) -> SubmissionEntry {
    onCommand?(sqe, qid)
    return replaced(sqe, qid: qid)
  }

  /// A command without its reserved and vendor specific fields, and with other blocks.
  func replaced(_ sqe: SubmissionEntry, qid: QueueID) -> SubmissionEntry {
    var mapped = SubmissionEntry()
    (mapped.cdw0, mapped.nsid, mapped.prp1, mapped.prp2) = (sqe.cdw0, sqe.nsid, sqe.prp1, sqe.prp2)
    if qid == .admin {
      guard let opcode = AdminOpcode(rawValue: sqe.opcode) else { return mapped }
      (mapped.cdw10, mapped.cdw11) = (sqe.cdw10, sqe.cdw11)
      if opcode == .getLogPage { (mapped.cdw12, mapped.cdw13, mapped.cdw14) = (sqe.cdw12, sqe.cdw13, sqe.cdw14) }
      return mapped
    }
    guard let opcode = IOOpcode(rawValue: sqe.opcode) else { return mapped }
    mapped.cdw12 = sqe.cdw12
    if opcode.hasStartingBlock {
      // The ranges of a copy follow as data.
      mapped.slba = map(slba: sqe.slba, blocks: opcode == .copy ? 0 : UInt64(sqe.blocks))
    } else {
      (mapped.cdw10, mapped.cdw11) = (sqe.cdw10, sqe.cdw11)
    }
    return mapped
  }
}
