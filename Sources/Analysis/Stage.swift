/// A part of a command's way, in the order in which a command takes them. The raw value is the index in that order.
public enum Stage: Int, CaseIterable, Sendable {
  /// Doorbell written → the engine turns to the command. Waiting for its turn is a part of it, kept apart.
  case detect
  /// Transfer of the submission queue entry begins → its bytes are here.
  case fetch
  /// Fetched → a worker takes the command.
  case dispatch
  /// Data pointer parsed, lists fetched → segments known.
  case map
  /// First segment from the host begins → last ends.
  case dataIn
  /// Handed to the backend → the backend completes.
  case execute
  /// First segment to the host begins → last ends.
  case dataOut
  /// Ready → completion queue entry visible in host memory. Waiting for room is a part of it, kept apart.
  case complete
  /// Completion queue entry visible → the interrupt that announces it.
  case interrupt
  /// → the host's completion queue head doorbell covers it.
  case reap

  public static let count = 10

  /// As every report shows it.
  public var name: String {
    switch self {
    case .detect: "detect"
    case .fetch: "fetch"
    case .dispatch: "dispatch"
    case .map: "map"
    case .dataIn: "data-in"
    case .execute: "execute"
    case .dataOut: "data-out"
    case .complete: "complete"
    case .interrupt: "interrupt"
    case .reap: "reap"
    }
  }
}

/// A time for each stage, in nanoseconds.
public struct StageTimes: Sendable {
  private var values = InlineArray<10, UInt64>(repeating: 0)

  public init() {}

  public subscript(stage: Stage) -> UInt64 {
    get { values[stage.rawValue] }
    set { values[stage.rawValue] = newValue }
  }

  /// By `Stage.rawValue`.
  subscript(index: Int) -> UInt64 { values[index] }

  public var sum: UInt64 {
    var sum: UInt64 = 0
    for index in 0..<Stage.count { sum &+= values[index] }
    return sum
  }
}
