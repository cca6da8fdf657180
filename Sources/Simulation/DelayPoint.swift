/// A place in the simulated world where extra time can pass: within the port's call of that name.
enum DelayPoint: Int, CaseIterable {
  /// The transfer of submission queue entries.
  case fetch
  /// Before the engine turns to a command.
  case begin
  /// The read of a PRP list.
  case read
  /// Before a command's segments are known.
  case map
  /// The transfer of a segment.
  case transferFromHost, transferToHost
  /// In the backend.
  case execute
  /// After the result, before the completion queue entry is visible.
  case prepare
  /// Before an interrupt is raised.
  case interrupt
}

/// Extra virtual time at each point, in nanoseconds.
struct Delays: BitwiseCopyable {
  private var values = InlineArray<9, UInt64>(repeating: 0)

  subscript(point: DelayPoint) -> UInt64 {
    @inline(__always) get { values[point.rawValue] }
    set { values[point.rawValue] = newValue }
  }
}
