import Analysis
import Endpoint
import EventSequences
import Events
import Expressions
import Replay
import Report
import Trace

/// Where `continue` stops.
struct Breakpoint {
  let number: Int
  /// As the user gave it, and with the condition added later.
  let text: String
  var condition: String?
  var isTemporary = false
  /// How many times it is still passed over.
  var ignored: UInt64 = 0
  var hits: UInt64 = 0
  private(set) var kind: Kind

  enum Kind {
    /// It asks for events, or for events and the engine's state: it holds at single events.
    case event(Expression<Place>)
    /// It asks for the engine's state only: it stops where it becomes true, or where something changes.
    case state(Expression<Place>)
    /// It asks for a command's stages: the points right after the completions of the commands that meet it, ascending.
    case commands([UInt64])
  }

  /// What an expression of a breakpoint asks for.
  enum Place: Hashable, Sendable {
    case event(EventValue)
    case engine(EngineValue)
    case command(CommandValue)

    var isOfEvent: Bool { if case .event = self { true } else { false } }
    var isOfEngine: Bool { if case .engine = self { true } else { false } }
    var isOfCommand: Bool { if case .command = self { true } else { false } }
  }

  /// All names of the three vocabularies. Where events and commands share one, it is the event's.
  static let vocabulary: Vocabulary<Place> =
    Vocabulary.events.map(Place.event) + Vocabulary.engine.map(Place.engine) + Vocabulary.commands.map(Place.command)

  init(_ number: Int, _ text: String, in debugger: Debugger) throws {
    (self.number, self.text) = (number, text)
    kind = try Breakpoint.kind(of: text, in: debugger)
  }

  /// Stop only if this holds too; nil for no other condition.
  mutating func restrict(to condition: String?, in debugger: Debugger) throws {
    if let condition { _ = try Breakpoint.kind(of: condition, in: debugger) }
    kind = try Breakpoint.kind(of: condition.map { "(\(text)) && (\($0))" } ?? text, in: debugger)
    self.condition = condition
  }

  private static func kind(of text: String, in debugger: Debugger) throws -> Kind {
    do {
      let expression = try Expression(text, vocabulary)
      if !debugger.hasEngine, let variable = expression.variables.first(where: \.place.isOfEngine) {
        throw DebuggerError(
          "\(variable.name) is of our engine, which this trace does not have: ask for events and times of commands")
      }
      if expression.variables.contains(where: \.place.isOfCommand) {
        return .commands(try debugger.ends(of: try commands(text, expression)))
      }
      guard expression.variables.contains(where: \.place.isOfEvent) else { return .state(expression) }
      guard !expression.hasChanges else {
        throw DebuggerError(
          "changes is for the engine's state, as in sq[1].head changes: each event has its own values")
      }
      return .event(expression)
    } catch let error as ExpressionError {
      for line in error.marked.split(separator: "\n") { debugger.say("  \(line)") }
      // The names would fill a page.
      let parts = error.description.split(separator: "; the names are ", maxSplits: 1)
      throw DebuggerError(parts[0] + (parts.count > 1 ? "; help expressions lists the names" : ""))
    }
  }

  /// An expression that names a stage is one of commands.
  private static func commands(_ text: String, _ expression: Expression<Place>) throws -> Expression<CommandValue> {
    if let variable = expression.variables.first(where: \.place.isOfEngine) {
      throw DebuggerError("\(variable.name) is of the engine: it cannot be combined with the times of a command")
    }
    return try Expression(text, Vocabulary.commands)
  }
}

/// Runs the engine from a checkpoint on and collects where breakpoints hold.
final class BreakpointSearch: ReplayObserver {
  /// A point at which a breakpoint holds.
  struct Hit {
    let point: UInt64
    /// The index of the breakpoint.
    let index: Int
  }

  /// In the order in which they were found; at most `hitsMax`, the last ones.
  private(set) var hits: [Hit] = []
  private static let hitsMax = 1 << 20
  private let breakpoints: [Breakpoint]
  private let events: any EventSequence
  /// Hits at or before this point are not wanted.
  private let begin: UInt64
  private let end: UInt64
  private var next: UInt64
  /// By breakpoint: whether its expression held at the last state, and what `changes` compares with.
  private var held: [Bool]
  private var watched: [WatchedValues?]
  private var nextCommand: [Int]
  /// What breakpoints on events ask of the engine, at the last observation.
  private var engineValues: [EngineValue: UInt64?] = [:]
  /// The first state only tells what holds already.
  private var isUnderWay = false
  private(set) var failure: (any Error)?

  /// - Parameter first: the event with which the replay starts.
  init(_ breakpoints: [Breakpoint], _ events: any EventSequence, first: UInt64, after begin: UInt64, upTo end: UInt64) {
    (self.breakpoints, self.events, self.begin, self.end, next) = (breakpoints, events, begin, end, first)
    held = breakpoints.map { _ in false }
    watched = breakpoints.map { breakpoint in
      switch breakpoint.kind {
      case .event(let expression), .state(let expression):
        expression.hasChanges ? WatchedValues(expression) : nil
      case .commands: nil
      }
    }
    nextCommand = breakpoints.map { breakpoint in
      guard case .commands(let points) = breakpoint.kind else { return 0 }
      return points.firstPlace(above: first)
    }
    for breakpoint in breakpoints {
      guard case .event(let expression) = breakpoint.kind else { continue }
      for case .engine(let value) in expression.variables.map(\.place) { engineValues[value] = .some(nil) }
    }
  }

  func observe(_ controller: borrowing Controller, event: UInt64) {
    // The engine acted on the last of these events; the others came while it was as before.
    check(upTo: min(event, end) - (event > 0 && event <= end ? 1 : 0))
    for value in engineValues.keys { engineValues[value] = controller.value(of: value) }
    check(upTo: min(event, end))
    for index in breakpoints.indices {
      guard case .state(let expression) = breakpoints[index].kind else { continue }
      let holds = evaluate(index, expression) { place in
        if case .engine(let value) = place { controller.value(of: value) } else { nil }
      }
      if holds, isUnderWay, !held[index] || expression.hasChanges { hit(index, at: event) }
      held[index] = holds
    }
    isUnderWay = true
  }

  /// Check the events up to a number, also those after the engine's last one.
  func check(upTo event: UInt64) {
    while next < event {
      do {
        guard let record = try events.event(next) else {
          next += 1
          continue
        }
        for index in breakpoints.indices { check(index, record) }
      } catch {
        failure = error
        return
      }
      next += 1
    }
  }

  private func check(_ index: Int, _ record: UnsafePointer<Record>) {
    switch breakpoints[index].kind {
    case .event(let expression):
      let id = events.id(of: next)
      let values = EventValues(record, source: id.source, stream: id.stream)
      let holds = evaluate(index, expression) { place in
        switch place {
        case .event(let value): values.value(of: value)
        case .engine(let value): engineValues[value] ?? nil
        case .command: nil
        }
      }
      if holds { hit(index, at: next + 1) }
    case .commands(let points):
      guard nextCommand[index] < points.count, points[nextCommand[index]] == next + 1 else { return }
      nextCommand[index] += 1
      hit(index, at: next + 1)
    case .state: break
    }
  }

  private func evaluate(
    _ index: Int, _ expression: Expression<Breakpoint.Place>, _ value: (Breakpoint.Place) -> UInt64?
  ) -> Bool {
    guard watched[index] != nil else { return expression.holds(value) }
    return expression.holds(&watched[index]!, value)
  }

  private func hit(_ index: Int, at point: UInt64) {
    guard point > begin, point <= end else { return }
    if hits.count == BreakpointSearch.hitsMax { hits.removeFirst(hits.count / 2) }
    hits.append(Hit(point: point, index: index))
  }
}
