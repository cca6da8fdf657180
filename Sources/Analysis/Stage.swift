import Text

/// A stage of a command's latency, in order. The raw value is the index in that order.
public enum Stage: Int, CaseIterable, Sendable {
  /// Doorbell written → transfer of the entry begins. Waiting for its turn is part of it and also recorded separately.
  case detect
  /// Transfer of the submission queue entry begins → ends.
  case fetch
  /// Fetched → a worker starts the command.
  case dispatch
  /// Data pointer parsed, lists fetched → segments known.
  case map
  /// First segment from the host begins → last ends.
  case dataIn
  /// Submitted to the backend → completed by the backend.
  case execute
  /// First segment to the host begins → last ends.
  case dataOut
  /// Ready → completion queue entry visible in host memory. Waiting for room is part of it and also recorded
  /// separately.
  case complete
  /// Completion queue entry visible → the interrupt that announces it.
  case interrupt
  /// → the host's completion queue head doorbell covers it.
  case reap
  /// The recorder's digest of the command's data, which the command would not wait for without a recording. It follows
  /// the transfer of the data.
  case recording

  public static let count = 11

  /// The name in every report.
  public var name: String { "\(self)".hyphenated }
}

/// A time per stage, in nanoseconds.
public struct StageTimes: Sendable {
  private var values = InlineArray<11, UInt64>(repeating: 0)

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
