/// What authors of drivers want to know of a fault.
public struct FaultDescription: Sendable {
  public let kind: Fault.Kind
  /// A SPEC with all that follows the name, as `late-completion=TIME`.
  public let spec: String
  /// What the host sees.
  public let effect: String
  /// What the specification requires instead; nil if it allows this.
  public let rule: String?
  /// Where it says so.
  public let section: String
  /// What a driver should do about it.
  public let advice: String
}

extension Fault {
  /// A run under all faults: each strikes rarely enough for a driver to recover, often enough to be seen within a few
  /// thousand commands.
  public static let trials = [
    "delay=execute:1ms,every=100", "error=internal-error,every=200", "drop-completion,every=500",
    "drop-completion,hole,after=500,once", "duplicate-completion,every=100", "late-completion=20ms,every=200",
    "reorder-completion,every=20", "wrong-phase,after-wrap,after=500,once", "wrong-sqhd,every=50",
    "wrong-cid=17,every=500", "drop-interrupt,every=50", "duplicate-interrupt,every=20",
    "late-interrupt=5ms,every=20", "stuck-doorbell=20ms,every=50", "stuck-doorbell,after=100,once",
    "prp-off-by-one,every=200", "slow-request=20ms,every=200", "slow-request=forever,after=500,once",
    "stall=200ms,after=500,once", "short-transfer,every=200", "fail-transfer,every=200",
    "link-loss=200ms,after=500,once", "controller-fatal,after=200,once",
  ]
}

extension Fault.Kind {
  /// Conditions that a SPEC of this kind takes.
  public var conditions: String { conditions(.execute) }

  /// The fault for authors of drivers.
  public var described: FaultDescription {
    func description(
      _ value: String, _ effect: String, rule: String?, _ section: String, _ advice: String
    ) -> FaultDescription {
      FaultDescription(
        kind: self, spec: name + value, effect: effect, rule: rule, section: section, advice: advice)
    }
    switch self {
    case .delay:
      return description(
        "=STAGE:TIME", "Commands take longer: the engine spends the time in this stage.", rule: nil,
        "Base 2.1, 3.3.1", "Nothing, if the time is below its time limit for a command.")
    case .error:
      return description(
        "=STATUS", "The command completes with this status and without effect; no data are transferred.", rule: nil,
        "Base 2.1, 4.2.3",
        "Retry a limited number of times, not at all with Do Not Retry (dnr), and report the error to the caller.")
    case .dropCompletion:
      return description(
        "",
        "The command never completes; the next completion uses its entry. With hole, its entry keeps the old phase tag, and the host finds nothing behind it until the queue is created again.",
        rule: "The controller posts a completion for every command.", "Base 2.1, 3.3.1; 4.2.1",
        "Notice by a time limit, abort the command, and reset the controller if the Abort does not help.")
    case .duplicateCompletion:
      return description(
        "", "The completion arrives twice, in adjacent entries with the right phase tags.",
        rule: "A command has one completion.", "Base 2.1, 4.2.1",
        "Ignore a completion whose SQID and CID name no outstanding command. It may also hit a new command with the same CID: reuse identifiers as late as possible."
      )
    case .lateCompletion:
      return description(
        "=TIME",
        "The completion is written so much later, after others that were posted meanwhile, with its interrupt.",
        rule: nil, "Base 2.1, 3.3.1",
        "Nothing within its time limit. After an Abort or reset the completion may still arrive: ignore it.")
    case .reorderCompletion:
      return description(
        "[=TIME]",
        "The completion changes places with the next of its queue, or follows after this time (default: 1ms). Its SQHD is older than that of the entry before it.",
        rule: nil, "Base 2.1, 3.3.1; 4.2.1",
        "Expect completions in any order. Take SQHD only from the newest entry, or compare it modulo the queue size.")
    case .wrongPhase:
      return description(
        "", "The entry has the phase tag of the previous round, so the host does not see it, nor what follows.",
        rule: "The phase tag is inverted in each round through the queue.", "Base 2.1, 4.2.4",
        "As for a dropped completion: time limit, Abort, reset.")
    case .wrongSqhd:
      return description(
        "[=N]", "SQHD is N too high (default: 1), and may lie outside the queue.",
        rule: "SQHD is the submission queue's head when the entry was created.", "Base 2.1, 4.2.1",
        "Use SQHD only if it lies between the last head and the tail; never overwrite an entry that was not fetched.")
    case .wrongCid:
      return description(
        "[=N]", "CID is N too high (default: 1): the completion names another command, or none.",
        rule: "CID is that of the completed command.", "Base 2.1, 4.2.1",
        "Check SQID and CID before use; count and report unknown ones. The right command exceeds its time limit.")
    case .dropInterrupt:
      return description(
        "", "Completions are in the queue, and no interrupt announces them.",
        rule: "A posted entry leads to an interrupt if the queue has them enabled.", "PCIe Transport 1.1, 3.5",
        "When a command exceeds its time limit, look into the completion queue before aborting it.")
    case .duplicateInterrupt:
      return description(
        "", "The interrupt arrives twice; the second may find no new entry.",
        rule: "There is no interrupt without a new entry.", "PCIe Transport 1.1, 3.5",
        "Return from a handler that finds nothing; do not disable the vector because of a few.")
    case .lateInterrupt:
      return description(
        "=TIME", "The interrupt arrives so much later than the entries that it announces.",
        rule: "Coalescing limits the delay of an interrupt.", "PCIe Transport 1.1, 3.5; Base 2.1, 5.1.25.1.6",
        "Expect that entries were consumed before their interrupt arrives.")
    case .stuckDoorbell:
      return description(
        "[=TIME]",
        "Writes of a submission queue's tail doorbell have no effect for this time (default: until the queue is created again). Commands are not fetched.",
        rule: "A tail doorbell announces commands, which the controller fetches.", "PCIe Transport 1.1, 3.1.2.1",
        "Time limit, Abort (which cannot find the command), reset. SQHD does not advance: do not submit more than the queue holds."
      )
    case .prpOffByOne:
      return description(
        "",
        "The controller reads PRP lists of the command one entry too far: its data land in the wrong pages, or the missing last entry fails the command (Invalid Field, PRP Offset Invalid, Data Transfer Error).",
        rule: "A PRP list begins at the address in PRP2.", "Base 2.1, 4.3.1",
        "It cannot know by itself: check data end to end. Clear list entries behind the last one, so that they cannot be mistaken for pages."
      )
    case .slowRequest:
      return description(
        "=TIME", "The command takes so much longer; others overtake it. An Abort succeeds meanwhile.", rule: nil,
        "Base 2.1, 5.1.1", "Abort after the time limit; expect the status Command Abort Requested.")
    case .stall:
      return description(
        "[=TIME]",
        "No command of any queue that reaches the backend completes for this time (default: until a reset). Aborts succeed, admin commands work.",
        rule: nil, "Base 2.1, 5.1.1; 3.7.2", "Time limit, Abort; reset the controller if that happens to many commands."
      )
    case .shortTransfer:
      return description(
        "", "Half of a data segment is transferred, and the command succeeds: silent corruption.",
        rule: "A successful command has transferred all of its data.", "Base 2.1, 4.3; NVM Command Set 1.1, 3.3",
        "It cannot know by itself: check data end to end (protection information, checksums).")
    case .failTransfer:
      return description(
        "", "The command fails with Data Transfer Error; a part of its data may have been transferred.", rule: nil,
        "Base 2.1, 4.2.3.1", "Retry; treat the buffer, or the blocks of a write, as undefined.")
    case .linkLoss:
      return description(
        "[=TIME]",
        "All registers read as ones for this time (default: 100ms), writes have no effect, and the controller is in its initial state afterwards.",
        rule: nil, "PCIe Transport 1.1, 3.3; Base 2.1, 3.7.2",
        "Recognise reads of all ones, wait for the link, enable the controller again and repeat the commands.")
    case .controllerFatal:
      return description(
        "", "CSTS.CFS is set, nothing is fetched or completed any more.", rule: nil, "Base 2.1, 9.5; 3.1.4.6",
        "Read CSTS when a command exceeds its time limit; with CFS set reset the controller without trying an Abort.")
    }
  }
}
