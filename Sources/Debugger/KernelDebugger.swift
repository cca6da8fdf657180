import Analysis
import EventSequences
import EventWords
import Events
import Expressions
import KernelStreams
import NVMe
import Report
import Text
import Trace

/// The debugger of the kernel's traces: at each point it shows which commands the driver and the host have in hand, what
/// each CPU runs, and where our engine stands if it gets what the driver received.
final class KernelDebugger: Debugger {
  let events: NumberedStreams
  let subject: KernelSubject
  let kernel: KernelAtEvent
  /// Nil until it was asked for.
  var knownTwin: DriverTwin?
  /// Those under way at a point.
  var knownTransfers: (point: UInt64, transfers: [Transfer])?

  /// - Parameter controller: of the target; nil for the busiest.
  init(
    _ reader: TraceReader, _ controller: UInt16?, _ write: @escaping (String) -> Void,
    _ isInterrupted: @escaping () -> Bool
  ) throws {
    events = try NumberedStreams(reader)
    events.isInterrupted = isInterrupted
    let all = try KernelController.all(in: reader)
    let chosen = controller.map { number in all.first { $0.controller == number } } ?? all.first
    if let controller, chosen == nil {
      throw DebuggerError("\(reader.path) has no controller \(controller) of the kernel's target")
    }
    subject = try KernelSubject(reader.path, events, controller: chosen.map { ($0.controller, $0.nqn) })
    kernel = KernelAtEvent(events, subject)
    let first = try events.event(0)?.pointee.time ?? 0
    super.init(reader, events, begin: 1, time: first, write)
  }

  override var summary: String {
    let times = reader.chunks.map { ($0.header.firstTime, $0.header.lastTime) }
    let (first, last) = (times.map(\.0).min() ?? 0, times.map(\.1).max() ?? 0)
    let whose =
      subject.hasTarget
      ? "controller \(subject.number)" + (subject.isEndpoint ? " of nvmet-pci-epf" : " of the kernel's target")
      : "nvme\(subject.number) of the kernel's host"
    return "\(Quantity.count(end, "event")), \(Quantity.time(last - min(first, last))); \(whose); "
      + "help lists the commands, info problems what went wrong"
  }

  override var hasEngine: Bool { false }
  override class var subjects: [InformationSubject] { InformationSubject.ofKernel }
  override func showInformation(_ subject: String, _ words: inout TypedWords) throws { try inform(subject, &words) }

  override func origin(of event: UInt64) -> String {
    let id = events.id(of: event)
    guard let owner = subject.owner(id) else { return "\(id.source)/\(id.stream) " }
    if owner.role == .host { return "host CPU \(owner.cpu) " }
    return (subject.isTarget(id) ? "" : "controller \(owner.number) ") + "CPU \(owner.cpu) "
  }

  func state() throws -> KernelState { try kernel.state(at: point) }

  // MARK: Commands

  override func beginsCommand(_ event: NumberedEvent) -> Bool { subject.begins(event) }

  override func command(_ words: inout TypedWords) throws -> (qid: UInt16, cid: UInt16) {
    guard let word = words.next() else { return try commandAtPoint() }
    if word == "oldest" {
      let state = try state()
      guard let oldest = state.oldest ?? state.oldestAbandoned else { throw DebuggerError("no command is in flight") }
      return (oldest.key.qid, oldest.key.cid)
    }
    guard let name = QueueAndCommand(word) else {
      throw DebuggerError("'\(word.printable(limit: 40))' is no command: write CID, QID/CID or oldest, as in 1/0x140")
    }
    if let qid = name.qid { return (qid, name.cid) }
    let queues = Set(try state().commands.keys.filter { $0.cid == name.cid }.map(\.qid)).sorted()
    if queues.count == 1 { return (queues[0], name.cid) }
    if queues.count > 1 {
      let names = queues.map { "\($0)/\(name.cid)" }.joined(separator: ", ")
      throw DebuggerError("several queues have a command with this identifier in flight: \(names)")
    }
    // Not in flight: the last I/O command of that name.
    var found: UInt16?
    try events.visitBackward(before: point) { event in
      guard let key = subject.command(of: event), key.cid == name.cid, found == nil || key.qid != 0 else {
        return false
      }
      found = key.qid
      return key.qid != 0
    }
    guard let found else { throw DebuggerError("there is no command with identifier \(name.cid) up to here") }
    return (found, name.cid)
  }

  /// The command of the event at the point.
  func commandAtPoint() throws -> (qid: UInt16, cid: UInt16) {
    guard let record = try events.event(current) else { throw DebuggerError("there is no event at the point") }
    let event = NumberedEvent(number: current, record: record, id: events.id(of: current))
    guard let key = subject.command(of: event) else {
      throw DebuggerError("the event at the point belongs to no command: name one, as in 1/0x140")
    }
    return (key.qid, key.cid)
  }

  /// The latest command with this name up to the point.
  func history(_ qid: UInt16, _ cid: UInt16) throws -> KernelCommand? {
    let key = CommandKey(qid: qid, cid: cid)
    // It began before the recording, or in a gap.
    if let cut = try state().commands[key], cut.isCut {
      return try KernelCommand(key, cut.begun.event, in: events, subject)
    }
    return try KernelCommand.find(key, before: point, in: events, subject)
  }

  override func span(_ qid: UInt16, _ cid: UInt16) throws -> CommandSpan? {
    try history(qid, cid).map {
      CommandSpan(name: name(qid, cid, $0.opcode), begin: $0.begin, ended: $0.end == .replaced ? nil : $0.ended)
    }
  }

  override func start(_ qid: UInt16, _ cid: UInt16) throws -> UInt64? {
    let key = CommandKey(qid: qid, cid: cid)
    if let found = try KernelCommand.find(key, before: point, in: events, subject) { return found.begin }
    var next: UInt64?
    try events.visit(from: point) { event in
      guard subject.command(of: event) == key else { return false }
      next = event.number
      return true
    }
    return next
  }

  override func pass(_ count: UInt64, _ direction: Direction) throws -> UInt64? {
    throw DebuggerError("passes are of our endpoint's poll loop: step by event or command")
  }

  // MARK: Breakpoints

  /// Searched in one go.
  private static let window: UInt64 = 1 << 16

  override func search(_ direction: Direction, from point: UInt64) throws -> FoundStops? {
    let isForward = direction == .forward
    let from = isForward ? point : point - min(point, KernelDebugger.window)
    let upTo = isForward ? min(end, point + KernelDebugger.window) : point
    let search = BreakpointSearch(breakpoints, events, first: from, after: max(from, begin - 1), upTo: upTo)
    search.check(upTo: upTo)
    if let failure = search.failure { throw failure }
    return FoundStops(hits: search.hits, next: isForward ? upTo : from)
  }

  override func ends(of condition: Expression<CommandValue>) throws -> [UInt64] {
    guard subject.hasTarget else {
      throw DebuggerError("the times of commands are those of a target, which this trace does not have")
    }
    final class Ends { var times: [UInt64] = [] }
    let found = Ends()
    var analyzer = StageAnalyzer(subject: .controller(subject.number))
    analyzer.onCommand = { command in
      if condition.holds({ command.value(of: $0) }) { found.times.append(command.end) }
    }
    try analyzer.ingestAll(of: reader)
    found.times.sort()
    var points: [UInt64] = []
    var next = 0
    try events.visit(from: 0) { event in
      guard next < found.times.count else { return true }
      guard event.record.pointee.time >= found.times[next], subject.command(of: event) != nil || isAnnouncement(event)
      else { return false }
      points.append(event.number + 1)
      while next < found.times.count, found.times[next] <= event.record.pointee.time { next += 1 }
      return false
    }
    return points
  }

  private func isAnnouncement(_ event: NumberedEvent) -> Bool {
    event.record.pointee.is(.interrupt) && subject.isTarget(event.id)
  }

  // MARK: Events

  override func backtrace(_ words: inout TypedWords) throws { try showBacktrace(&words) }
  override func explain(_ question: WhyQuestion) throws {
    switch question {
    case .command(let qid, let cid): try whyCommand(qid, cid)
    case .oldest: try whyOldest()
    case .interrupt(let vector): try whyNoInterrupt(vector)
    case .idle: try tellIdleReasons()
    }
  }

  override func listEvents(_ words: inout TypedWords) throws {
    let count = words.number() ?? 10
    try words.end()
    guard (1...1000).contains(count) else { throw DebuggerError("the number must be 1 to 1000") }
    for number in point - min(point, count)..<point {
      if let record = try events.event(number) { show(number, record) }
    }
  }
}
