import Analysis
import NVMe
import Text

/// Whether a report tells the truth: time is added at one known point of host, engine or backend, and the report, which
/// does not know of it, must show exactly this time in exactly one place.
public struct TruthTable: Sendable {
  /// A point, and how the runs with time added there ended.
  public struct Row: Sendable {
    public let point: String
    /// Where the report must show the time.
    public let place: String
    /// By queue depth: runs in which it did, and all runs.
    public var runs: [(depth: Int, right: Int, all: Int)] = []
    /// What the report showed instead, one line per run.
    public var failures: [String] = []
  }

  public static let depths = [1, 4, 32]
  /// Number of points.
  public static var points: Int { DelayPoint.allCases.count }
  /// The added time in nanoseconds.
  public static let amounts: [UInt64] = [1000, 1_000_000]
  /// Commands of a run.
  private static let commands: UInt64 = 400
  private static let seed: UInt64 = 11

  private let shapes: [Shape]
  private let amounts: [UInt64]
  private var done = 0
  /// The runs without added time.
  private var plain: [Shape: Outcome] = [:]

  /// - Parameter isWhole: every shape and amount; else a quick selection.
  public init(isWhole: Bool = true) {
    shapes = TruthTable.depths.flatMap(Shape.all).filter {
      isWhole || $0.pattern == .constant && $0.depth != 4 || $0.pattern == .coalescing && $0.depth == 1
    }
    amounts = isWhole ? TruthTable.amounts : [TruthTable.amounts[0]]
  }

  /// The next point, in every shape.
  /// - Returns: nil after the last.
  public mutating func nextRow() -> Row? {
    guard done < TruthTable.points else { return nil }
    done += 1
    return row(DelayPoint.allCases[done - 1])
  }

  mutating func row(_ point: DelayPoint) -> Row {
    var row = Row(point: "\(point)".hyphenated, place: point.place.name)
    for depth in TruthTable.depths {
      var run = (depth: depth, right: 0, all: 0)
      for shape in shapes where shape.depth == depth && shape.fits(point) {
        for ns in amounts {
          run.all += 1
          if let failure = check(point, ns, shape) { row.failures.append(failure) } else { run.right += 1 }
        }
      }
      if run.all > 0 { row.runs.append(run) }
    }
    return row
  }

  /// - Returns: what is wrong; nil if the report is right.
  private mutating func check(_ point: DelayPoint, _ ns: UInt64, _ shape: Shape) -> String? {
    let shape = shape.for(point)
    let plain = plain[shape] ?? TruthTable.run(shape, nil)
    self.plain[shape] = plain
    let delayed = TruthTable.run(shape, shape.delay(point, ns))
    return delayed.difference(from: plain, point, ns, shape).map { "\(ns) ns, \(shape): \($0)" }
  }

  private static func run(_ shape: Shape, _ delay: Delay?) -> Outcome {
    let world = World(judgesQueues: false)
    defer { world.deallocate() }
    world.delay = delay
    let analysis = AnalysingRecorder.Analysis()
    var simulator = Simulator(
      shape.scenario, seed: seed, world: world,
      recorder: AnalysingRecorder(source: .engine, world: world, analysis: analysis),
      host: AnalysingRecorder(source: .host, world: world, analysis: analysis), goesOn: { _ in true })
    simulator.run(commands: commands)
    simulator.complete()
    return Outcome(
      summary: analysis.summary, commands: analysis.commands, addedNs: world.delay?.addedNs ?? 0,
      violation: world.violation)
  }
}

/// What a report can show of a command besides its stages.
private enum Place {
  case stage(Stage)
  /// Of reap, the part after the host saw the entry.
  case handling
  /// Between two stages.
  case unexplained
  /// Before the command begins.
  case hostSubmit
  case nowhere

  var name: String {
    switch self {
    case .stage(let stage): stage.name
    case .handling: "reap (seen → doorbell)"
    case .unexplained: "unexplained"
    case .hostSubmit: "host's submission"
    case .nowhere: "no command"
    }
  }

  var isUnexplained: Bool { if case .unexplained = self { true } else { false } }

  /// The stage that contains it.
  var stage: Stage? {
    switch self {
    case .stage(let stage): stage
    case .handling: .reap
    default: nil
    }
  }
}

extension DelayPoint {
  fileprivate var place: Place {
    switch self {
    case .submit, .free: .nowhere
    case .announce: .hostSubmit
    case .ring, .doorbell: .stage(.detect)
    case .look: .stage(.reap)
    case .handle: .handling
    case .fetch: .stage(.fetch)
    case .begin: .stage(.dispatch)
    case .read, .map: .stage(.map)
    case .reach, .transferredFromHost, .transferredToHost: .unexplained
    case .transferFromHost: .stage(.dataIn)
    case .transferToHost: .stage(.dataOut)
    case .digestFromHost, .digestToHost: .stage(.recording)
    case .execute, .serve, .learn: .stage(.execute)
    case .release, .prepare: .stage(.complete)
    case .show, .interrupt, .timer: .stage(.interrupt)
    }
  }

  /// What the engine's thread does while the time passes.
  fileprivate var activities: Set<Activity> {
    switch self {
    case .submit, .announce, .ring, .doorbell, .look, .handle, .free, .timer, .serve, .learn: [.poll, .absent]
    case .fetch: [.fetch]
    case .begin, .reach, .transferredFromHost, .transferredToHost: [.engine]
    // The engine posts completions when it is done with the commands that it fetched together.
    case .release: [.complete, .engine]
    case .read, .map: [.map]
    case .transferFromHost: [.dataIn]
    case .transferToHost: [.dataOut]
    case .digestFromHost, .digestToHost: [.recording]
    case .execute: [.execute]
    case .prepare: [.complete]
    // With coalescing no interrupt may follow.
    case .show: [.interrupt, .complete, .poll, .absent]
    case .interrupt: [.interrupt]
    }
  }

  /// Needs a backend that completes requests later.
  fileprivate var isOfBackend: Bool { self == .serve || self == .learn }
}

/// How the commands of a run come, and which of them are delayed.
private struct Shape: Hashable, CustomStringConvertible {
  enum Pattern: CaseIterable {
    case constant, every50th, oneQueue, batchFetch, coalescing
  }

  let depth: Int
  let pattern: Pattern
  let usesSGLs: Bool
  var isDeferred = false

  static func all(_ depth: Int) -> [Shape] {
    Pattern.allCases.flatMap { pattern in
      [false, true].map { Shape(depth: depth, pattern: pattern, usesSGLs: $0) }
    }
  }

  var description: String { "QD \(depth), \(pattern), \(usesSGLs ? "SGLs" : "PRPs")" }

  /// Only in these shapes is the same sequence of commands certain: with a backend or a timer that runs beside the engine,
  /// added time changes what the host does next.
  func fits(_ point: DelayPoint) -> Bool {
    if point.isOfBackend { return isAlone && pattern != .coalescing }
    return point != .timer || pattern == .coalescing && depth == 1
  }

  /// Only the command itself can extend this stage, apart from its waiting, and not by time added at this point.
  func isOwn(_ stage: Stage, _ point: DelayPoint) -> Bool {
    switch stage {
    // Making an entry visible is part of what follows: the interrupt or, with coalescing, the next completion.
    case .complete: point != .show || pattern != .coalescing
    default: true
    }
  }

  /// One command is in flight at a time.
  var isAlone: Bool { depth == 1 && pattern != .oneQueue }

  func `for`(_ point: DelayPoint) -> Shape {
    var shape = self
    shape.isDeferred = point.isOfBackend
    return shape
  }

  /// The time added in this shape.
  func delay(_ point: DelayPoint, _ ns: UInt64) -> Delay {
    let every: UInt64 =
      switch pattern {
      case .every50th: 50
      // No timer may expire while commands are delayed.
      case .coalescing where depth > 1: 10
      default: 1
      }
    return Delay(point, ns: ns, every: every, qid: pattern == .oneQueue ? 1 : nil)
  }

  /// The backend and the host's own work take no time.
  var scenario: Scenario {
    var scenario = Scenario()
    scenario.ioQueues = pattern == .oneQueue ? 2 : 1
    scenario.submissionEntries = [64, 64]
    scenario.completionEntries = [64, 64]
    scenario.usesInterrupts = [true, true]
    scenario.depth = depth
    scenario.longEvery = 1
    scenario.usesSGLs = usesSGLs
    scenario.fetchesBatches = pattern == .batchFetch
    if pattern == .coalescing { (scenario.threshold, scenario.aggregation) = (UInt8(depth == 1 ? 7 : depth - 1), 255) }
    if isDeferred { (scenario.parallelism, scenario.serviceNs) = (.max, 5000...5000) }
    return scenario
  }
}

/// What a report shows of a run.
private struct Outcome {
  let summary: Summary
  let commands: [CommandTimes]
  let addedNs: UInt64
  let violation: String?

  /// Whether a command's own time moves in no stage but the one that has the added time, and waiting, in every command, by
  /// whole multiples of it that are told as what the engine's thread did.
  /// - Returns: how the added time is shown in the wrong place; nil if it is not.
  func difference(from plain: Outcome, _ point: DelayPoint, _ ns: UInt64, _ shape: Shape) -> String? {
    if let violation = violation ?? plain.violation { return violation }
    guard addedNs > 0 else { return "no command passes this point" }
    guard commands.count == plain.commands.count, commands.count >= 400, summary.partial == 0,
      zip(commands, plain.commands).allSatisfy({ $0.opcode == $1.opcode && $0.cid == $1.cid && $0.qid == $1.qid })
    else { return "the commands are not those of the run without added time" }
    let (place, isAlone) = (point.place, shape.isAlone)
    for stage in Stage.allCases where stage != place.stage && shape.isOwn(stage, point) {
      let own = { (times: CommandTimes) in times.stages[stage] - (isAlone ? 0 : times.waiting[stage]) }
      if let wrong = firstChange(plain, stage.name, own) { return wrong }
    }
    if !place.isUnexplained, let wrong = firstChange(plain, "unexplained", \.unexplained) { return wrong }
    return differenceInWaiting(plain, point, ns) ?? differenceInside(plain, place, isAlone: isAlone)
  }

  /// A command that changed where it must not.
  private func firstChange(_ plain: Outcome, _ what: String, _ value: (CommandTimes) -> UInt64) -> String? {
    for (number, (one, other)) in zip(commands, plain.commands).enumerated() where value(one) != value(other) {
      return "\(what) of command \(number) changes from \(value(other)) to \(value(one)) ns"
    }
    return nil
  }

  /// Other commands wait for the one that is delayed, behind what the thread does for it.
  private func differenceInWaiting(_ plain: Outcome, _ point: DelayPoint, _ ns: UInt64) -> String? {
    func told(_ times: CommandTimes) -> Int64 { Int64(times.behind.sum + times.behindHost.sum) }
    for (number, (one, other)) in zip(commands, plain.commands).enumerated() {
      let waits = Stage.allCases.map { Int64(one.waiting[$0]) - Int64(other.waiting[$0]) }
      guard waits.allSatisfy({ $0 >= 0 && $0 % Int64(ns) == 0 }) else {
        return "the waiting of command \(number) grows by \(waits) ns"
      }
      for activity in Activity.allCases where !point.activities.contains(activity) {
        guard one.behind[activity] == other.behind[activity] else {
          return
            "command \(number) waits behind \(activity.name) for \(other.behind[activity]), then \(one.behind[activity]) ns"
        }
      }
      guard told(one) - told(other) == waits.reduce(0, +) else {
        return
          "command \(number) waits \(waits.reduce(0, +)) ns longer, of which \(told(one) - told(other)) are told"
      }
    }
    return nil
  }

  /// The place itself must have all of the added time.
  private func differenceInside(_ plain: Outcome, _ place: Place, isAlone: Bool) -> String? {
    func sum(_ summary: Summary, _ place: Place) -> Int128 {
      switch place {
      case .stage(let stage): Int128(summary.io[stage].sumNs)
      case .handling: Int128(summary.handling?.sumNs ?? 0)
      case .unexplained: Int128(summary.io.unexplained.sumNs)
      case .hostSubmit: Int128(summary.hostSubmit?.sumNs ?? 0)
      case .nowhere: 0
      }
    }
    let isExact =
      switch place {
      case .stage(let stage): isAlone || [.fetch, .map, .dataIn, .execute, .dataOut, .recording].contains(stage)
      case .unexplained: true
      case .handling, .hostSubmit, .nowhere: isAlone
      }
    for place in [place] + (place.stage.map { [.stage($0)] } ?? []) {
      if case .nowhere = place { continue }
      let change = sum(summary, place) - sum(plain.summary, place)
      // Others wait for the command that is delayed, in the same stage.
      guard isExact ? change == Int128(addedNs) : change >= Int128(addedNs) else {
        return "\(place.name) grows by \(change) ns, not \(addedNs)"
      }
    }
    return nil
  }
}
