import Endpoint
import NVMe
import Text

/// Tables of an engine's state, at the point or of the driver's twin.
extension Debugger {
  func showQueues(_ state: EngineState) {
    guard !state.submissionQueues.isEmpty || !state.completionQueues.isEmpty else {
      return say("there are no queues: the controller is disabled")
    }
    say("  SQ    CQ  entries   head   tail  announced  in flight  at backend")
    for queue in state.submissionQueues {
      say(
        row([
          ("\(queue.qid)", 4), ("\(queue.cqid)", 6), ("\(queue.size)", 9), ("\(queue.head)", 7), ("\(queue.tail)", 7),
          ("\(queue.announced)", 11), ("\(queue.held)", 11), ("\(queue.executing)", 12),
        ]) + (queue.isBeingDeleted ? "  being deleted" : ""))
    }
    say("  CQ  vector  entries   head   tail  phase  not freed  unannounced")
    for queue in state.completionQueues {
      say(
        row([
          ("\(queue.cqid)", 4), (queue.interruptsEnabled ? "\(queue.vector)" : "-", 8), ("\(queue.size)", 9),
          ("\(queue.head)", 7), ("\(queue.tail)", 7), (queue.phase ? "1" : "0", 7), ("\(queue.outstanding)", 11),
          (queue.interruptsEnabled ? "\(queue.unannounced)" : "-", 13),
        ]) + (queue.isBlocked ? "  full, \(queue.waiting) wait" : queue.isFull ? "  full" : ""))
    }
  }

  func showRegisters(_ registers: EngineState.Registers) {
    showRegister("CAP", registers.cap)
    showRegister("VS", UInt64(registers.vs))
    showRegister("INTMS", UInt64(registers.intms))
    showRegister("CC", UInt64(registers.cc))
    if let pending = registers.pendingCC { say("  written, not yet polled: \(pending.hex)") }
    showRegister("CSTS", UInt64(registers.csts))
    showRegister("AQA", UInt64(registers.aqa))
    showRegister("ASQ", registers.asq)
    showRegister("ACQ", registers.acq)
  }

  /// With its fields by name.
  func showRegister(_ name: String, _ value: UInt64) {
    let layout = RegisterLayout.all.first { $0.name == name }
    let fields = (layout?.fields ?? []).map { "\($0.name) \($0.value(in: value))" }.joined(separator: ", ")
    tell("\(name.padded(to: 6)) \(value.hex)" + (fields.isEmpty ? "" : "  "), fields)
  }

  func showEntry(_ entry: SubmissionEntry) {
    say("  CDW0 \(entry.cdw0.hex)  NSID \(entry.nsid.hex)  CDW2 \(entry.cdw2.hex)  CDW3 \(entry.cdw3.hex)")
    say("  MPTR \(entry.mptr.hex)  PRP1 \(entry.prp1.hex)  PRP2 \(entry.prp2.hex)")
    say("  CDW10 \(entry.cdw10.hex)  CDW11 \(entry.cdw11.hex)  CDW12 \(entry.cdw12.hex)")
    say("  CDW13 \(entry.cdw13.hex)  CDW14 \(entry.cdw14.hex)  CDW15 \(entry.cdw15.hex)")
  }
}
