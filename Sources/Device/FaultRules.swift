import Chance
import Endpoint
import Faults
import NVMe
import Target

/// What the conditions of a fault can ask of a command.
struct FaultCommand: BitwiseCopyable {
  let cid: CommandID
  let opcode: UInt8
  let nsid: UInt32
  private let slba: UInt64
  /// 0 for a command without a range of blocks.
  private let blocks: UInt64
  /// Its data pointer is a PRP and describes blocks, so that what the engine reads for it before its data are PRP lists.
  let usesPRPLists: Bool

  init(_ sqe: SubmissionEntry) {
    (cid, opcode, nsid, slba) = (sqe.cid, sqe.opcode, sqe.nsid, sqe.slba)
    let command = IOOpcode(rawValue: sqe.opcode)
    blocks = command?.hasStartingBlock == true && command != .copy ? UInt64(sqe.blocks) : 0
    usesPRPLists = sqe.psdt == 0 && (command == .read || command == .write || command == .compare)
  }

  init(_ request: IORequest) {
    (cid, opcode, nsid, slba) = (request.cid, request.opcode.rawValue, request.nsid, request.slba)
    blocks = UInt64(request.blocks)
    usesPRPLists = false
  }

  func uses(_ range: ClosedRange<UInt64>) -> Bool {
    guard blocks > 0 else { return false }
    let (end, overflow) = slba.addingReportingOverflow(blocks - 1)
    return range.overlaps(slba...(overflow ? .max : end))
  }
}

/// The faults of an engine, and how often each has passed and struck.
struct FaultRules {
  /// A fault that strikes now, and its number among the options, from 1.
  struct Strike {
    let fault: Fault
    let rule: UInt32
  }

  private struct Rule {
    let fault: Fault
    var random: SeededGenerator
    /// Commands that the conditions selected.
    var selected: UInt64 = 0
    var struck: UInt64 = 0
  }

  private var rules: [Rule]
  /// By kind: the places of its rules.
  private var places = [[Int]](repeating: [], count: Fault.Kind.allCases.count)
  /// Some rule changes completions.
  let changesCompletions: Bool
  /// Some rule asks for commands.
  let needsCommands: Bool

  init(_ faults: [Fault], seed: UInt64) {
    rules = faults.enumerated().map { number, fault in
      Rule(fault: fault, random: SeededGenerator(seed: SeededGenerator.mix(seed) &+ UInt64(number)))
    }
    for (place, fault) in faults.enumerated() { places[Int(fault.kind.rawValue)].append(place) }
    changesCompletions = faults.contains { $0.kind.isOfCompletion }
    needsCommands = faults.contains { $0.selection.namesCommand || $0.kind == .prpOffByOne }
  }

  func has(_ kind: Fault.Kind) -> Bool { !places[Int(kind.rawValue)].isEmpty }

  /// Something passes the place of this kind of fault.
  /// - Parameters:
  ///   - stage: of a delay.
  ///   - hasWrapped: its completion queue has wrapped.
  ///   - entries: completions that an interrupt announces.
  mutating func pass(
    _ kind: Fault.Kind, _ qid: QueueID, _ command: FaultCommand?, stage: Fault.Stage = .execute,
    hasWrapped: Bool = true, entries: UInt32 = 1
  ) -> Strike? {
    for place in places[Int(kind.rawValue)] {
      let fault = rules[place].fault
      guard kind != .delay || fault.stage == stage, hasWrapped || !fault.selection.afterWrap,
        entries > 1 || !fault.selection.coalesced, fault.selection.selects(qid, command),
        rules[place].struck < fault.selection.times
      else { continue }
      rules[place].selected += 1
      let number = rules[place].selected
      guard number > fault.selection.after, (number - fault.selection.after) % fault.selection.every == 0,
        fault.selection.rate >= 1 || rules[place].random.unit() < fault.selection.rate
      else { continue }
      rules[place].struck += 1
      return Strike(fault: fault, rule: UInt32(place + 1))
    }
    return nil
  }
}

extension Fault.Selection {
  /// Without a queue: every I/O queue.
  fileprivate func selects(_ queue: QueueID, _ command: FaultCommand?) -> Bool {
    guard qid.map({ $0 == queue.rawValue }) ?? (queue != .admin) else { return false }
    guard namesCommand else { return true }
    guard let command else { return false }
    return (opcode ?? command.opcode) == command.opcode && (nsid ?? command.nsid) == command.nsid
      && lba.map(command.uses) ?? true
  }
}
