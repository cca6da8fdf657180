/// Arranges stages end to end between a command's beginning and end, so that no time counts twice and none is left out.
struct Tiling {
  private(set) var stages = StageTimes()
  private(set) var unexplained: UInt64 = 0
  private(set) var cursor: UInt64
  let end: UInt64

  init(begin: UInt64, end: UInt64) {
    precondition(begin <= end)
    cursor = begin
    self.end = end
  }

  /// The stage lasts from the end of the previous one to `time`.
  mutating func extend(_ stage: Stage, to time: UInt64) {
    let time = min(time, end)
    guard time > cursor else { return }
    stages[stage] += time - cursor
    cursor = time
  }

  /// That much of a stage belongs to another.
  mutating func move(_ time: UInt64, from stage: Stage, to other: Stage) {
    let time = min(time, stages[stage])
    stages[stage] -= time
    stages[other] += time
  }

  /// The stage covers `stretch`; time between it and the previous stage is unexplained.
  mutating func cover(_ stage: Stage, _ stretch: Stretch) {
    guard stretch.isKnown else { return }
    let begin = min(stretch.begin, end)
    if begin > cursor {
      unexplained += begin - cursor
      cursor = begin
    }
    extend(stage, to: stretch.end)
    move(stretch.recorded, from: stage, to: .recording)
  }
}

/// A time interval in nanoseconds, empty until it is known.
struct Stretch {
  var begin = UInt64.max
  var end: UInt64 = 0
  /// How much of it the engine's thread spent on the recording.
  private(set) var recorded: UInt64 = 0
  /// The thread's total for that when it began.
  private var recordedBefore: UInt64 = 0

  var isKnown: Bool { begin != .max && end >= begin }

  /// Extend it to cover an event that ended at `end` and lasted `span`.
  /// - Parameter recorded: the thread's total for the recording; 0 if none of the stretch can be that.
  @inline(__always)
  mutating func add(end: UInt64, span: UInt64, recorded: UInt64 = 0) {
    if begin == .max { recordedBefore = recorded }
    begin = min(begin, end - min(span, end))
    self.end = max(self.end, end)
    self.recorded = recorded - min(recordedBefore, recorded)
  }

  /// It begins here, unless it has begun before.
  @inline(__always)
  mutating func open(at time: UInt64, recorded: UInt64) {
    if begin == .max { recordedBefore = recorded }
    begin = min(begin, time)
  }

  @inline(__always)
  mutating func close(at time: UInt64, recorded: UInt64) {
    end = time
    self.recorded = recorded - min(recordedBefore, recorded)
  }
}
