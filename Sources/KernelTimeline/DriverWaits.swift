/// How long a command of the kernel's target waited for the next thread or actor, in nanoseconds.
public struct Handoffs: Sendable {
  /// From queueing its work item until it runs.
  public var dispatch: UInt64 = 0
  /// From the host's submission until its doorbell; 0 if unknown.
  public var doorbell: UInt64 = 0
  /// From the end of its execution until its data transfer begins.
  public var wakeUp: UInt64 = 0
  /// From ready until the completion queue's work item runs.
  public var completion: UInt64 = 0

  public init() {}
}

/// What the CPU that then served a command did while the command waited, for one command or for several together.
public struct DriverWaits: Sendable {
  /// From the host's doorbell, or its submission, until its fetch began; nothing without the host's events.
  public var detect = DriverTimes()
  /// Until a worker started it: what that CPU did, and how many commands workers started there meanwhile.
  public var dispatch = DriverTimes()
  public var started: UInt64 = 0
  /// Until its completion queue's work item ran.
  public var completion = DriverTimes()
  /// In its transfers, for the channel.
  public var channel: UInt64 = 0

  public init() {}

  public static func += (waits: inout DriverWaits, more: DriverWaits) {
    waits.detect += more.detect
    waits.dispatch += more.dispatch
    waits.started &+= more.started
    waits.completion += more.completion
    waits.channel &+= more.channel
  }
}

/// The waits of the commands in flight, by index, and of the finished ones together.
public struct DriverWaitTable: Sendable {
  /// More than a driver's queues hold.
  private static let countMax = 1 << 17

  private var inFlight: [DriverWaits] = []
  public private(set) var finished = DriverWaits()
  public private(set) var finishedCount: UInt64 = 0

  public init() {}

  public subscript(index: UInt32) -> DriverWaits {
    get { index < inFlight.count ? inFlight[Int(index)] : DriverWaits() }
    set {
      guard index < DriverWaitTable.countMax else { return }
      while inFlight.count <= index { inFlight.append(DriverWaits()) }
      inFlight[Int(index)] = newValue
    }
  }

  public mutating func finish(_ index: UInt32) {
    finished += self[index]
    finishedCount &+= 1
  }
}
