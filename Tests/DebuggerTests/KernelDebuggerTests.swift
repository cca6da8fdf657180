import Chance
import EventSequences
import Events
import Foundation
import Testing
import Trace

@testable import Debugger

@Suite("The debugger on traces of the kernel")
struct KernelDebuggerTests {
  // MARK: Events by number

  /// Positions and contents of all events, in the order in which a trace is read.
  private func merged(_ reader: TraceReader) throws -> [(record: Record, id: StreamID)] {
    var events = try MergedEvents(reader)
    var all: [(record: Record, id: StreamID)] = []
    while let (record, id) = try events.next() { all.append((record.pointee, id)) }
    return all
  }

  @Test("events have the numbers of their order in time, from wherever one asks")
  func numbers() throws {
    let reader = try golden("nvmet-pci-epf")
    let all = try merged(reader)
    let events = try NumberedStreams(reader)
    #expect(events.end == UInt64(all.count))
    var seen = 0
    try events.visit(from: 0) { event in
      #expect(event.number == UInt64(seen) && event.record.pointee == all[seen].record && event.id == all[seen].id)
      seen += 1
      return false
    }
    #expect(seen == all.count)
    try events.visitBackward(before: events.end) { event in
      seen -= 1
      #expect(event.number == UInt64(seen) && event.record.pointee == all[seen].record)
      return false
    }
    #expect(seen == 0)
    for number in 0..<UInt64(all.count) {
      // Here and there, one step on and one back.
      let place = Int(number * 7919 % UInt64(all.count))
      for near in [place, place + 1, place] where near < all.count {
        #expect(try events.event(UInt64(near))?.pointee == all[near].record)
        #expect(events.id(of: UInt64(near)) == all[near].id)
      }
    }
    #expect(try events.event(events.end) == nil)
    for place in stride(from: 0, to: all.count, by: 101) {
      let ns = all[place].record.time
      #expect(try events.end(upTo: ns) == UInt64(all.filter { $0.record.time <= ns }.count))
    }
  }

  @Test("the latest event of a queue is found by the chunks that may have it")
  func lastOfQueue() throws {
    let reader = try golden("nvmet-pci-epf")
    let all = try merged(reader)
    let events = try NumberedStreams(reader)
    for place in stride(from: 1, to: all.count, by: 503) {
      let isFetch: (UnsafePointer<Record>) -> Bool = { $0.pointee.is(.fetch) && $0.pointee.qid == 1 }
      let found = try events.last(before: UInt64(place), of: 1, in: { _ in true }, isFetch)
      let expected = all[..<place].lastIndex { $0.record.is(.fetch) && $0.record.qid == 1 }
      #expect(found == expected.map { UInt64($0) })
    }
  }

  // MARK: States

  /// What the debugger says of a point.
  private static let questions = [
    "info", "info commands", "info works", "info queues", "info registers", "info interrupts", "info transfers",
    "info twin", "why idle", "info command", "backtrace", "why oldest",
  ]

  @Test("what is said of an event does not depend on the way there")
  func sameFromEverywhere() throws {
    let session = try Session(golden("nvmet-pci-epf"))
    // Where commands overlap, and around the reset.
    let points = Array(stride(from: 8_300, to: 8_400, by: 7)) + Array(stride(from: 19_020, to: 19_300, by: 29))
    var forward: [String] = []
    for point in points {
      _ = try session("goto #\(point)")
      for question in KernelDebuggerTests.questions { forward.append(session.error(question)) }
    }
    for line in forward.flatMap({ $0.split(separator: "\n") }) where !line.hasPrefix("no error") {
      #expect(line.count <= 80)
    }
    for point in points.reversed() {
      _ = try session("goto #\(point)")
      for question in KernelDebuggerTests.questions.reversed() {
        #expect(session.error(question) == forward.removeLast(), "\(question) at #\(point)")
      }
    }
  }

  @Test("states that are kept on the way are those of a reading from the beginning")
  func keptStates() throws {
    let reader = try golden("nvmet-pci-epf")
    let events = try NumberedStreams(reader)
    let subject = try KernelSubject(reader.path, events, controller: (1, KernelTrace.goldenNQN(reader)))
    let kernel = KernelAtEvent(events, subject, interval: 64)
    var state = KernelState(subject)
    var states: [(KernelState)] = []
    try events.visit(from: 0) { event in
      if event.number % 500 == 250 { states.append(state) }
      state.ingest(event)
      return false
    }
    _ = try kernel.state(at: events.end)
    for (index, expected) in states.enumerated().reversed() {
      let found = try kernel.state(at: UInt64(index) * 500 + 250)
      #expect(found.commands == expected.commands)
      #expect(found.submissionQueues == expected.submissionQueues)
      #expect(found.completionQueues == expected.completionQueues)
      #expect(found.registers == expected.registers && found.csts == expected.csts)
      #expect(found.timeline.openWorks == expected.timeline.openWorks)
      #expect(found.workBegins == expected.workBegins && found.lastOfCPU == expected.lastOfCPU)
    }
  }

  @Test("a command is in flight from its first event to the host's sight of its completion")
  func inFlight() throws {
    let reader = try golden("nvmet-pci-epf")
    let events = try NumberedStreams(reader)
    let subject = try KernelSubject(reader.path, events, controller: (1, KernelTrace.goldenNQN(reader)))
    #expect(subject.isEndpoint)
    var state = KernelState(subject)
    var (expected, mostAtOnce): (Set<[UInt16]>, Int) = ([], 0)
    try events.visit(from: 0) { event in
      state.ingest(event)
      let record = event.record.pointee
      let name = [record.qid, record.cid]
      switch record.event {
      case .submit where subject.isHost(event.id): expected.insert(name)
      // The first commands were submitted before the host's controller had its name.
      case .fetch: expected.insert(name)
      case .completion where subject.isHost(event.id): expected.remove(name)
      case .completion where state.commands[.init(qid: name[0], cid: name[1])] == nil: expected.remove(name)
      // The driver answers this request for events after the reset.
      case .registerWrite where CommandHistory.endsCommands(record): expected.formIntersection([[0, 31]])
      default: break
      }
      #expect(Set(state.commands.keys.map { [$0.qid, $0.cid] }) == expected, "after #\(event.number)")
      mostAtOnce = max(mostAtOnce, expected.count)
      return false
    }
    #expect(mostAtOnce > 30)
  }

  @Test("a command's life has its events from the beginning in flight to its end")
  func lives() throws {
    let reader = try golden("nvmet-pci-epf")
    let session = try Session(reader)
    let kernel = try #require(session.debugger as? KernelDebugger)
    _ = try session("goto #8200")
    let commands = try kernel.state().commands
    #expect(commands.count > 8)
    for (key, command) in commands {
      let history = try #require(try kernel.history(key.qid, key.cid))
      #expect(history.begin == command.begun.event && history.isFromHost == command.isFromHost)
      #expect(history.events.contains(command.last.event))
      let ended = try #require(history.ended)
      #expect(try kernel.kernel.state(at: ended).commands[key]?.begun == command.begun)
      #expect(try kernel.kernel.state(at: ended + 1).commands[key] == nil)
    }
  }

  // MARK: Commands of the debugger

  @Test("movements lead where they say, and back")
  func movements() throws {
    let session = try Session(golden("nvmet-pci-epf"))
    #expect(try session("goto end").hasPrefix("#20664 "))
    #expect(try session("step") == "the recording ends here")
    let last = try session("reverse-next")
    #expect(last.contains("fetch: "))
    #expect(try session("step").hasPrefix("#"))
    #expect(try session("reverse-step") == last)
    #expect(try session("goto begin").hasPrefix("#0 "))
    #expect(try session("reverse-step") == "the recording begins here")
    let first = try session("next")
    #expect(first.contains("CPU 0 fetch: qid 0, cid 0"))
    #expect(try session("next 30").contains("fetch"))
    #expect(try session("reverse-next 30") == first)
    #expect(try session("goto 3.57s").hasPrefix("#19028 "))
    #expect(try session("reverse-finish").contains("submit: qid 1, cid 49729"))
    #expect(try session("finish").contains("host CPU 1 completion: cqid 1, cid 49729"))
    #expect(try session("goto 1/49729").contains("submit: qid 1, cid 49729"))
    #expect(session.error("step 2 pass").contains("of our endpoint's poll loop"))
  }

  @Test("a failing command is found, with what it waited behind and what our engine makes of it")
  func failingCommand() throws {
    let session = try Session(golden("nvmet-pci-epf"))
    #expect(try session("info problems").contains("2 × completion with status internal-error, first #19038"))
    _ = try session("break event == completion && status == internal-error")
    #expect(try session("continue").contains("#19038 "))
    let life = try session("backtrace")
    #expect(life.contains("command 1/49729 (write), submitted 1.10 ms ago"))
    #expect(life.contains("It waited 374 µs until a worker started it, on CPU 0, behind"))
    #expect(try session("continue").contains("#19044 3.570817742 s host CPU 1 completion"))
    #expect(
      try session("why").hasPrefix("command 1/49729 (write) was completed with status internal-error, #19044, now"))
    #expect(try session("info twin").contains("performed\n  691 commands"))
    #expect(try session("reverse-continue").contains("#19038 "))
  }

  @Test("a command that waits is explained by what the CPUs run")
  func waitingCommand() throws {
    let session = try Session(golden("nvmet-pci-epf"))
    _ = try session("goto 3.57s")
    #expect(try session("info commands").contains("is fetched, and waits for a\n    worker, since #19028, 309 µs ago"))
    #expect(try session("why oldest").contains("It completes at #19044, 1.19 ms after its submission."))
    _ = try session("goto 1/49729")
    #expect(try session("why").contains("is submitted, and the driver has not fetched it"))
    #expect(try session("info works").contains("1 command waits for a worker") == false)
  }

  @Test("breakpoints on the times of commands stop at their ends, in both directions")
  func timesOfCommands() throws {
    let session = try Session(golden("nvmet-pci-epf"))
    #expect(try session("break total > 20ms && qid == 1").hasPrefix("breakpoint 1: "))
    var stops: [String] = []
    while let stop = try? session("continue"), stop.hasPrefix("breakpoint") { stops.append(stop) }
    #expect(!stops.isEmpty && stops.allSatisfy { $0.contains("completion: cqid 1") })
    for stop in stops.reversed() { #expect(try session("reverse-continue") == stop) }
  }

  @Test("mistakes are answered in one line that says what is possible")
  func mistakes() throws {
    let session = try Session(golden("nvmet-pci-epf"))
    #expect(session.error("break cq[1].full").contains("is of our engine, which this trace does not have"))
    #expect(session.error("info timers").hasPrefix("this trace tells nothing of timers: info has commands, "))
    #expect(session.error("info weather") == "info knows no 'weather'; see help info")
    #expect(session.error("info command 1/5") == "there is no command 1/5 up to here")
    #expect(session.error("goto #99999") == "events have numbers from #0 to #20664")
    #expect(session.error("why oldest") == "no command is in flight, other than requests for events")
    #expect(try session("help info").contains("works "))
    #expect(try !session("help expressions").contains("cq[N].full"))
    #expect(throws: DebuggerError.self) {
      try Debugger.open(golden("nvmet-pci-epf"), controller: 9, write: { _ in })
    }
  }

  // MARK: Other traces

  @Test("nvmet's other transports have commands and no workers, and no twin")
  func otherTransports() throws {
    let trace = try KernelTrace()
    trace.add(.request, flags: 2, qid: 1, cid: 7, a: 64)
    trace.add(.request, flags: 1, qid: 1, cid: 8, a: 128)
    trace.add(.executeEnd, qid: 1, cid: 8, a: 512 << 32)
    trace.add(.request, flags: 2, qid: 1, cid: 9, a: 1 << 40)
    trace.add(.executeEnd, qid: 1, cid: 9, a: 0x80)
    let session = try Session(trace.finish())
    #expect(try session("goto end").contains("execute-end"))
    #expect(try session("info commands").contains("command 1/7 (read)"))
    #expect(try !session("info commands").contains("1/8"))
    #expect(try session("why 1/7").hasSuffix("The trace ends without its completion."))
    #expect(try session("why 1/8").hasPrefix("command 1/8 (write) was completed with status success"))
    #expect(try session("info problems").contains("1 × execution with status lba-out-of-range"))
    #expect(session.error("info twin").hasPrefix("there is no twin: only nvmet-pci-epf"))
    #expect(session.error("info works").hasPrefix("only nvmet-pci-epf has workers"))
    #expect(try session("reverse-next 2").contains("request: qid 1, cid 8"))
  }

  @Test("a host's trace alone has its commands")
  func hostOnly() throws {
    let trace = try KernelTrace(controller: nil)
    try trace.origin(stream: 3, controller: 0, isHost: true)
    trace.add(.submit, flags: 2, qid: 1, cid: 7, a: 64, stream: 3)
    trace.add(.doorbell, qid: 1, a: 1, stream: 3)
    trace.add(.submit, flags: 1, qid: 1, cid: 8, stream: 3)
    trace.add(.completion, qid: 1, cid: 8, stream: 3)
    let session = try Session(trace.finish())
    _ = try session("goto end")
    #expect(try session("info commands").contains("command 1/7 (read): begun 30 ns ago"))
    #expect(try session("backtrace 1/7").contains("doorbell: SQ 1, tail 1"))
    #expect(session.error("finish 1/8") == "command 1/8 (write) has ended before, at #4")
    _ = try session("reverse-step")
    #expect(try session("finish 1/8").hasPrefix("#4 "))
    #expect(session.error("info twin").hasPrefix("there is no twin"))
    #expect(session.error("break total > 1us").contains("of a target, which this trace does not have"))
  }

  @Test("a reset keeps what it abandoned, and lost events leave a doubt")
  func resetsAndLosses() throws {
    let trace = try KernelTrace()
    trace.bringUp()
    trace.fetch(5, slot: 0)
    trace.add(.gap, a: 3)
    trace.fetch(6, slot: 1)
    trace.register(0x14, 0x46_0000)
    trace.register(0x14, 0x46_0001)
    let session = try Session(trace.finish())
    _ = try session("goto end")
    #expect(try session("info commands") == "no command is in flight")
    #expect(try session("why oldest").contains("events were lost at"))
    #expect(try session("why oldest").contains("before the controller was reset or disabled"))
    _ = try session("reverse-step")
    #expect(try session("info commands").contains("it was in flight at the reset, #"))
    _ = try session("reverse-step")
    #expect(try session("info commands").contains("it may have ended"))
    #expect(try !session("info commands").contains("reset"))
    #expect(try session("why 1/6").contains("A reset ends it"))
  }

  @Test("the twin stands where events were lost, and says so")
  func twinAfterLoss() throws {
    let trace = try KernelTrace()
    trace.bringUp()
    trace.read(5, slot: 0)
    trace.add(.gap, a: 3)
    trace.read(6, slot: 1)
    let session = try Session(trace.finish())
    _ = try session("goto 1/5")
    #expect(try session("info twin").contains("it is ready"))
    // The gap is between.
    let lost = try #require(UInt64(try session("goto 1/6").dropFirst().prefix { $0.isNumber })) - 1
    _ = try session("goto end")
    let twin = try session("info twin").replacing("\n  ", with: " ")
    #expect(twin.hasPrefix("Events were lost: nothing after #\(lost - 1) was replayed."))
    #expect(twin.contains("performed 3 commands"))
    #expect(!twin.contains("CSTS") && !twin.contains("it is ready"))
  }

  @Test("there is no twin of a controller that ran before the recording", arguments: [true, false])
  func twinOfRunning(isConfigured: Bool) throws {
    let trace = try KernelTrace()
    if isConfigured { trace.register(0x14, 0x46_0001) }
    for (cid, slot) in [(5, 2), (6, 3)] { trace.read(UInt16(cid), slot: UInt32(slot)) }
    let session = try Session(trace.finish())
    for place in ["goto #2", "goto end"] {
      _ = try session(place)
      #expect(
        session.error("info twin")
          == "no error: there is no twin: the recording begins after the host enabled the controller")
    }
  }

  @Test("losses between chunks are problems, and what they hide of the queues is not told")
  func lostChunk() throws {
    let intact = try golden("nvmet-pci-epf")
    let path = NSTemporaryDirectory() + "lost-\(UUID().uuidString).nvpt"
    defer { unlink(path) }
    var bytes = try Data(contentsOf: URL(filePath: intact.path))
    let place = try #require(intact.chunks.firstIndex { $0.header.firstEvent > 0 && $0.header.events > 10_000 })
    bytes.removeSubrange(Int(intact.chunks[place].offset)..<Int(intact.chunks[place + 1].offset))
    try bytes.write(to: URL(filePath: path))
    let session = try Session(TraceReader(path: path))
    #expect(try session("info problems").contains("1 × events lost, first #5119"))
    _ = try session("goto #5118")
    #expect(try session("info queues").contains("\n   2     2     1024     24     24 "))
    _ = try session("goto #5244")
    let queues = try session("info queues")
    // Since the loss, the host has rung for the first two, and an interrupt has announced their entries.
    #expect(
      queues.contains("\n   1     1     1024    647    647 ") && queues.contains("\n   2     2     1024      -      - ")
    )
    #expect(queues.contains("\n   1       1     1024      -      1       -            1 "))
    #expect(queues.contains("\n   2       2     1024      -      -       -            - "))
    #expect(try session("info interrupts").contains("it\n        is not known what was posted since."))
    #expect(try !session("why idle").contains("doorbell"))
    #expect(try session("info twin").hasPrefix("Events were lost: nothing after #5118 was replayed."))
  }

  @Test("after a loss, phase tags tell where a completion queue stands")
  func phaseTags() {
    var queue = KernelState.CompletionQueue(vector: 0, entries: 4, address: 0)
    for entry in 0..<6 { queue.post(phase: entry < 4) }
    #expect(queue.tail == 2 && queue.phase == false && queue.posted == 6)
    queue.lose()
    for phase in [false, false] { queue.post(phase: phase) }
    #expect(queue.tail == nil && queue.posted == nil)
    for phase in [true, true, true] { queue.post(phase: phase) }
    #expect(queue.tail == 3 && queue.phase == true)
    queue.post(phase: true)
    #expect(queue.tail == 0 && queue.phase == false && queue.posted == nil)
  }

  @Test("a fetch that failed fetches nothing")
  func failedFetch() throws {
    let trace = try KernelTrace()
    try trace.origin(stream: 3, controller: 0, isHost: true)
    trace.bringUp()
    trace.add(.queue, qid: 1, cid: 1, a: 0x40000, b: 4)
    trace.add(.submit, flags: 2, qid: 1, cid: 5, stream: 3)
    trace.add(.doorbell, qid: 1, a: 1, stream: 3)
    trace.fetch(5, slot: 0, flags: 2)
    let session = try Session(trace.finish())
    _ = try session("goto end")
    #expect(try session("info queues").contains("1     1        4      0      1 "))
    let why = try session("why 1/5").replacing("\n  ", with: " ")
    #expect(why.contains("the driver has not fetched it"))
    #expect(why.contains("The driver's last fetch from this queue failed, #"))
    #expect(try session("reverse-next").contains("cid 2,"))
  }

  @Test("a transfer that is under way is the stage, though it is recorded at its end")
  func transferUnderWay() throws {
    let session = try Session(golden("nvmet-pci-epf"))
    _ = try session("goto 2.49s")
    let expected = "has a worker, which transfers its data from the host, for 9.20 ms, until #5985"
    #expect(try session("why oldest").replacing("\n  ", with: " ").contains(expected))
    #expect(try session("info commands").replacing("\n    ", with: " ").contains(expected))
    #expect(try session("info transfers oldest").hasSuffix("begun 9.20 ms ago; ends in 6.84 ms"))
    #expect(try session("info").contains("Event #5454 of 20,665"))
  }

  @Test("the help on traces of the kernel names nothing of our engine")
  func help() throws {
    let session = try Session(golden("nvmet-pci-epf"))
    for line in ["help"] + DebuggerCommand.all.filter({ !$0.isOfEngine }).map({ "help \($0.name)" }) {
      let help = try session(line)
      for word in ["pass", "engine's state", "watch", "cq[", "divergence"] where line != "help info" {
        #expect(!help.contains(word) || word == "pass" && help.contains("Pass over"), "\(line): \(word)")
      }
      for text in help.split(separator: "\n") { #expect(text.count <= 80) }
    }
  }

  @Test("what the driver has in hand at a reset is in flight until it answers or drops it")
  func inFlightAtReset() throws {
    let session = try Session(golden("nvmet-pci-epf"))
    _ = try session("goto #19121")
    #expect(try session("why 0/31").contains("it was in flight at the reset, #19121"))
    #expect(try session("info queues").contains("\n   0     0       32 "))
    _ = try session("goto #19200")
    #expect(try session("why 0/31").contains("was completed with status\n  internal-error, #19134"))
    let life = try session("backtrace 0/31")
    #expect(life.contains("register CC, EN 0") && life.contains("#19134 "))
    #expect(try !session("info problems").contains("in flight at the last reset"))
  }

  @Test("a command that began before the recording is in flight from whichever of its events is first")
  func cutCommands() throws {
    for kind in [EventKind.read, .segment, .executeBegin, .executeEnd, .completionQueued] {
      let trace = try KernelTrace()
      trace.add(kind, qid: 1, cid: 9)
      trace.read(5, slot: 1)
      let session = try Session(trace.finish())
      _ = try session("goto end")
      #expect(try session("info commands").contains("command 1/9: began before the recording; "), "\(kind)")
      #expect(try session("backtrace 1/9").contains("began before the recording"))
    }
  }

  @Test("of a damaged chunk the debugger tells, and goes on elsewhere")
  func damage() throws {
    let intact = try golden("nvmet-pci-epf")
    let path = NSTemporaryDirectory() + "damaged-\(UUID().uuidString).nvpt"
    defer { unlink(path) }
    var bytes = try Data(contentsOf: URL(filePath: intact.path))
    let place = try #require(intact.chunks.last { $0.header.events > 1000 })
    bytes[Int(place.offset) + 2000] ^= 0x10
    try bytes.write(to: URL(filePath: path))
    let session = try Session(TraceReader(path: path))
    #expect(session.error("info problems").contains("chunk"))
    #expect(session.error("goto end") != "no error: ")
    for line in ["info commands", "why oldest", "backtrace", "info twin", "reverse-next"] {
      #expect(session.error(line) != "no error: ")
    }
    #expect(try session("goto #100").contains("#100 "))
    #expect(try session("info commands").contains("command"))
  }

  @Test("no events make a command fail other than with an answer", arguments: 0..<20)
  func anyEvents(_ seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let trace = try KernelTrace()
    if seed % 2 == 0 { trace.bringUp() }
    for _ in 0..<300 { trace.addAny(&random) }
    let session = try Session(trace.finish())
    for place in ["goto begin", "goto #40", "goto #150", "goto end"] {
      let questions =
        KernelDebuggerTests.questions + ["info problems", "why 1/0", "backtrace 1/0", "finish 1/1", "next"]
      for line in [place] + questions { #expect(session.error(line) != "no error: ", "\(line)") }
    }
  }
}

extension KernelTrace {
  /// The subsystem's name in the golden trace.
  static func goldenNQN(_ reader: TraceReader) throws -> String {
    var events = try MergedEvents(reader)
    guard let (record, _) = try events.next(), let bytes = record.bytes else { return "" }
    return String(decoding: bytes, as: UTF8.self)
  }
}
