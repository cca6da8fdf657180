import Text

/// A fault for the live engine to inject: what it does, and which commands it strikes.
public struct Fault: Equatable, Sendable {
  /// What a fault does. The numbers are those of the trace's `fault` events.
  public enum Kind: UInt8, CaseIterable, Sendable {
    case delay, error
    case dropCompletion, duplicateCompletion, lateCompletion, reorderCompletion
    case wrongPhase, wrongSqhd, wrongCid
    case dropInterrupt, duplicateInterrupt, lateInterrupt
    case stuckDoorbell, prpOffByOne
    case slowRequest, stall
    case shortTransfer, failTransfer
    case linkLoss, controllerFatal

    /// As in a SPEC: `drop-completion`.
    public var name: String { "\(self)".hyphenated }
  }

  /// The stages in which the engine works, by the names of the report.
  public enum Stage: Int, CaseIterable, Sendable {
    case detect, fetch, dispatch, map, dataIn, execute, dataOut, complete, interrupt

    public var name: String { "\(self)".hyphenated }
  }

  public let kind: Kind
  /// Of a delay.
  public var stage = Stage.execute
  /// Nanoseconds; `.max` for ever. 0 for kinds without a time.
  public var ns: UInt64 = 0
  /// Of an error: the status field, with Do Not Retry if wanted.
  public var status: UInt16 = 0
  /// Of a wrong SQHD or CID: added to the right one.
  public var offset: UInt16 = 1
  /// Of a delay: sleep instead of keeping the core busy.
  public var sleeps = false
  /// Of a dropped completion: its entry stays empty, and later completions are written behind it.
  public var leavesHole = false
  public var selection = Selection()

  /// Which of the commands that pass a fault's place it strikes. All conditions must hold.
  public struct Selection: Equatable, Sendable {
    /// The submission queue; for completions and interrupts the completion queue. Nil for every I/O queue.
    public var qid: UInt16?
    public var opcode: UInt8?
    public var nsid: UInt32?
    /// The command uses one of these blocks.
    public var lba: ClosedRange<UInt64>?
    /// Only completions that their queue writes after it has wrapped.
    public var afterWrap = false
    /// Only interrupts that announce several completions.
    public var coalesced = false
    /// Passes over this many commands first, then strikes every so many, with this probability, so many times.
    public var after: UInt64 = 0
    public var every: UInt64 = 1
    public var rate = 1.0
    public var times = UInt64.max

    public init() {}

    /// Whether it needs to know the command.
    public var namesCommand: Bool { opcode != nil || nsid != nil || lba != nil }
  }

  public init(_ kind: Kind) {
    self.kind = kind
    switch kind {
    case .lateCompletion, .lateInterrupt, .slowRequest, .stuckDoorbell, .stall: ns = .max
    case .reorderCompletion: ns = 1_000_000
    case .linkLoss: ns = 100_000_000
    default: break
    }
  }
}

extension Fault.Kind {
  /// What follows the name in a SPEC.
  enum Value {
    case none
    case time(isRequired: Bool)
    case stageAndTime, status, offset
  }

  var value: Value {
    switch self {
    case .delay: .stageAndTime
    case .error: .status
    case .lateCompletion, .lateInterrupt, .slowRequest: .time(isRequired: true)
    case .reorderCompletion, .stuckDoorbell, .stall, .linkLoss: .time(isRequired: false)
    case .wrongSqhd, .wrongCid: .offset
    default: .none
    }
  }

  /// Whether it is at a place where the command is known.
  func knowsCommand(_ stage: Fault.Stage) -> Bool {
    switch self {
    case .delay: ![.detect, .fetch, .interrupt].contains(stage)
    case .dropInterrupt, .duplicateInterrupt, .lateInterrupt, .stuckDoorbell, .controllerFatal: false
    default: true
    }
  }

  /// Whether it can strike anything of the admin queue. Of the backends' requests only the flush of a shutdown or of a
  /// Set Features belongs to it.
  func strikesAdmin(_ stage: Fault.Stage) -> Bool {
    switch self {
    case .delay: [.detect, .fetch, .execute, .complete, .interrupt].contains(stage)
    case .prpOffByOne, .shortTransfer, .failTransfer, .linkLoss: false
    default: true
    }
  }

  /// Whether it changes what a backend does with a request.
  func isOfBackend(_ stage: Fault.Stage) -> Bool {
    self == .error || self == .slowRequest || self == .stall || self == .delay && stage == .execute
  }

  /// Whether it changes a completion queue entry.
  public var isOfCompletion: Bool {
    switch self {
    case .dropCompletion, .duplicateCompletion, .lateCompletion, .reorderCompletion, .wrongPhase, .wrongSqhd,
      .wrongCid:
      true
    default: false
    }
  }

  /// Whether it changes an interrupt.
  public var isOfInterrupt: Bool {
    self == .dropInterrupt || self == .duplicateInterrupt || self == .lateInterrupt
  }

  /// Whether it strikes only commands with data, which a null backend does not keep.
  public var needsData: Bool { self == .shortTransfer || self == .failTransfer }
}
