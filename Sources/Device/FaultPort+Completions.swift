import Endpoint
import Faults
import NVMe
import Platform

/// What the host sees of a completion that the engine has prepared.
enum FaultedCompletion {
  /// It is shown as the engine made it.
  case asItIs
  /// The host does not see it now.
  case withheld
  /// This entry is shown at the queue's tail, and again in the next entry.
  case shown(CompletionEntry, cqid: QueueID, isTwice: Bool)
}

/// Completions, in the host's numbering of the entries.
extension FaultPort {
  /// AQA gives the size of the admin completion queue (Base 2.1, 3.1.4.8).
  mutating func noteAdminQueue(_ offset: UInt64, _ width: Int, _ value: UInt64) {
    switch offset {
    case Register.aqa: newSizes[0] = UInt32(truncatingIfNeeded: value >> 16) & 0xfff + 1
    case Register.aqa - 4 where width == 8: newSizes[0] = UInt32(truncatingIfNeeded: value >> 48) & 0xfff + 1
    default: break
    }
  }

  /// A completion queue was created or deleted.
  mutating func renew(_ cqid: QueueID) {
    let place = Int(cqid.rawValue)
    heldCompletions -= queues[place].held.count
    queues[place] = HostCompletionQueue(size: newSizes[place])
    if cqid == .admin {
      // AQA stays valid from one enabling to the next; a stall ends with each.
      stall = (0, 0)
    } else {
      newSizes[place] = 0
    }
  }

  /// The head doorbell in the engine's numbers.
  mutating func completionHead(_ doorbell: Doorbell, last seen: UInt32) -> UInt32 {
    let value = live.doorbell(doorbell, last: seen)
    let place = Int(doorbell.qid.rawValue)
    guard rules.changesCompletions, queues[place].isKnown else { return value }
    if value != queues[place].head {
      // An invalid value stays invalid.
      guard queues[place].free(to: value) else { return max(value, queues[place].size) }
      if !queues[place].held.isEmpty { writeHeld(place, nowNs: Clock.monotonicNs()) }
    }
    return queues[place].engineHead
  }

  mutating func prepareChanged(
    _ cqe: CompletionEntry, at address: PCIAddress, _ cqid: QueueID, _ command: FaultCommand?
  ) -> UnsafeMutableRawPointer? {
    let place = Int(cqid.rawValue)
    if queues[place].base == nil { queues[place].base = address.rawValue }
    var entry = cqe
    let hasWrapped = queues[place].hasWrapped
    func strikes(_ kind: Fault.Kind, _ rules: inout FaultRules) -> FaultRules.Strike? {
      rules.pass(kind, cqid, command, hasWrapped: hasWrapped)
    }
    if let strike = strikes(.wrongSqhd, &rules) {
      entry.dw2 = entry.dw2 & 0xffff_0000 | UInt32(entry.sqhd &+ strike.fault.offset)
      note(.wrongSqhd, strike.rule, cqid, cqe.cid, UInt64(entry.sqhd))
    }
    if let strike = strikes(.wrongCid, &rules) {
      entry.dw3 = entry.dw3 & 0xffff_0000 | UInt32(entry.cid.rawValue &+ strike.fault.offset)
      note(.wrongCid, strike.rule, cqid, cqe.cid, UInt64(entry.cid.rawValue))
    }
    if let strike = strikes(.dropCompletion, &rules) {
      note(.dropCompletion, strike.rule, cqid, cqe.cid, UInt64(queues[place].tail))
      if strike.fault.leavesHole, queues[place].room > 0 {
        queues[place].advance(isPosted: true)
      } else {
        queues[place].skip()
      }
      return withhold()
    }
    if let strike = strikes(.lateCompletion, &rules) ?? strikes(.reorderCompletion, &rules) {
      let kind = strike.fault.kind
      note(kind, strike.rule, cqid, cqe.cid, strike.fault.ns)
      hold(entry, place, dueNs: FaultPort.end(after: strike.fault.ns), kind, strike.rule)
      return withhold()
    }
    // Only duplicates use entries that the engine does not know of.
    guard queues[place].room > 0 else {
      hold(entry, place, dueNs: 0, .duplicateCompletion, 0)
      return withhold()
    }
    entry.setPhase(queues[place].phase)
    if let strike = strikes(.wrongPhase, &rules) {
      entry.setPhase(!queues[place].phase)
      note(.wrongPhase, strike.rule, cqid, cqe.cid, UInt64(queues[place].tail))
    }
    var isTwice = false
    if queues[place].room > 1, let strike = strikes(.duplicateCompletion, &rules) {
      isTwice = true
      note(.duplicateCompletion, strike.rule, cqid, cqe.cid, UInt64(queues[place].next))
    }
    action = .shown(entry, cqid: cqid, isTwice: isTwice)
    return live.prepare(entry, at: queues[place].address, cqid: cqid)
  }

  private mutating func withhold() -> UnsafeMutableRawPointer? {
    action = .withheld
    return nowhere
  }

  private mutating func hold(
    _ cqe: CompletionEntry, _ place: Int, dueNs: UInt64, _ kind: Fault.Kind, _ rule: UInt32
  ) {
    heldCompletions += 1
    queues[place].held.append(
      .init(cqe: cqe, dueNs: dueNs, waitsForNext: kind == .reorderCompletion, kind: kind.rawValue, rule: rule))
  }

  mutating func showChanged(_ cqe: CompletionEntry, at memory: UnsafeMutableRawPointer) {
    switch action {
    case .asItIs: live.show(cqe, at: memory)
    case .withheld: break
    case .shown(let entry, let cqid, let isTwice):
      let place = Int(cqid.rawValue)
      live.show(entry, at: memory)
      queues[place].advance(isPosted: true)
      if isTwice { write(entry, place, isPosted: false) }
      if !queues[place].held.isEmpty { overtake(place) }
    }
  }

  /// An entry was written: those that waited for it follow.
  private mutating func overtake(_ place: Int) {
    for index in queues[place].held.indices where queues[place].held[index].waitsForNext {
      queues[place].held[index].dueNs = 0
    }
    writeHeld(place, nowNs: Clock.monotonicNs())
  }

  /// Write an entry at the tail. Memory that is gone swallows it.
  private mutating func write(_ cqe: CompletionEntry, _ place: Int, isPosted: Bool) {
    var entry = cqe
    entry.setPhase(queues[place].phase)
    if let memory = live.prepare(entry, at: queues[place].address, cqid: QueueID(UInt16(place))) {
      live.show(entry, at: memory)
    }
    queues[place].advance(isPosted: isPosted)
  }

  /// Write the completions that are due, as far as there is room, and announce them.
  mutating func writeHeld(_ place: Int, nowNs: UInt64) {
    var hasWritten = false
    while queues[place].room > 0, let index = queues[place].held.firstIndex(where: { $0.dueNs <= nowNs }) {
      let held = queues[place].held.remove(at: index)
      heldCompletions -= 1
      if held.rule > 0, let kind = Fault.Kind(rawValue: held.kind) {
        note(kind, held.rule, QueueID(UInt16(place)), held.cqe.cid, UInt64(queues[place].tail), ended: true)
      }
      write(held.cqe, place, isPosted: true)
      hasWritten = true
    }
    guard hasWritten, let vector = queues[place].vector else { return }
    queues[place].unannounced = 0
    live.interrupts.raise(vector)
  }
}

extension CompletionEntry {
  fileprivate mutating func setPhase(_ phase: Bool) { dw3 = dw3 & ~(1 << 16) | (phase ? 1 << 16 : 0) }
}
