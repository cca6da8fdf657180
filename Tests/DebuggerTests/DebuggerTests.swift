import Endpoint
import EventSequences
import Events
import Foundation
import Simulation
import Testing
import Trace

@testable import Debugger

/// A golden trace.
func golden(_ name: String) throws -> TraceReader {
  try TraceReader(path: #filePath.replacing("Tests/DebuggerTests/DebuggerTests.swift", with: "traces/\(name).nvpt"))
}

/// The endpoint's golden traces.
let goldenNames = [
  "bring-up", "coalescing", "commands", "errors", "namespaces", "qd1-read", "qd32-mixed", "reset-in-flight", "sgl",
  "two-queues",
]

/// A debugger whose output is kept.
final class Session {
  let debugger: Debugger
  private final class Output { var lines: [String] = [] }
  private let output = Output()

  init(_ reader: TraceReader) throws {
    let output = output
    debugger = try Debugger.open(reader) { output.lines.append($0) }
  }

  /// What a command prints.
  func callAsFunction(_ line: String) throws -> String {
    output.lines = []
    _ = try debugger.perform(line)
    return output.lines.joined(separator: "\n")
  }

  /// The error of a command that cannot be carried out.
  func error(_ line: String) -> String {
    do {
      return "no error: " + (try self(line))
    } catch { return "\(error)" }
  }

  var events: NumberedEvents { (debugger as! EngineDebugger).events }
}

@Suite("The replay debugger")
struct DebuggerTests {
  @Test("the state after an event does not depend on the way there", arguments: goldenNames)
  func sameStateFromEverywhere(_ name: String) throws {
    let events = try #require(NumberedEvents.all(of: .engine, in: ChunkCache(golden(name))).first)
    let forward = EngineAtEvent(events)
    let states = try (events.first + 1...events.end).map { try #require(try forward.state(at: $0)) }
    let backward = EngineAtEvent(events)
    for (index, state) in states.enumerated().reversed() {
      #expect(try backward.state(at: events.first + 1 + UInt64(index)) == state)
    }
    #expect(forward.divergence == nil)
    // Each event alone, without the states that another left behind.
    for index in stride(from: 0, to: states.count, by: 37) {
      #expect(try EngineAtEvent(events).state(at: events.first + 1 + UInt64(index)) == states[index])
    }
  }

  @Test("the state at a checkpoint is the recorded one", arguments: goldenNames)
  func checkpointStates(_ name: String) throws {
    let events = try #require(NumberedEvents.all(of: .engine, in: ChunkCache(golden(name))).first)
    let engine = EngineAtEvent(events)
    var checkpoints = 0
    for number in events.first..<events.end {
      guard let record = try events.event(number), record.pointee.is(.checkpoint), let bytes = record.bytes else {
        continue
      }
      let recorded = try Controller.decode(bytes).state
      #expect(try engine.state(at: number + 1) == recorded)
      checkpoints += 1
    }
    #expect(checkpoints > 0)
  }

  @Test("a fetched command is in flight from its fetch to its completion", arguments: goldenNames)
  func inFlightBetweenFetchAndCompletion(_ name: String) throws {
    let events = try #require(NumberedEvents.all(of: .engine, in: ChunkCache(golden(name))).first)
    let engine = EngineAtEvent(events)
    var inFlight: Set<[UInt16]> = []
    for number in events.first..<events.end {
      guard let record = try events.event(number)?.pointee else { continue }
      switch record.event {
      case .fetch: inFlight.insert([record.qid, record.cid])
      case .completion: inFlight.remove([Event.Completion(record).sqid, record.cid])
      case .reset: inFlight = []
      default: break
      }
      let state = try #require(try engine.state(at: number + 1))
      // Disabling the controller abandons commands without an event.
      guard state.registers.isReady else {
        inFlight = []
        continue
      }
      // Entries of one transfer are fetched together.
      let next = try events.event(number + 1)?.pointee
      if let next, next.is(.fetch), Event.Fetch(next).flags.contains(.joined) { continue }
      #expect(Set(state.commands.map { [$0.qid, $0.cid] }) == inFlight, "after #\(number)")
    }
  }

  @Test("movements lead where they say, and back")
  func movements() throws {
    let session = try Session(golden("qd1-read"))
    #expect(try session("goto end").hasPrefix("#\(session.events.end - 1) "))
    #expect(try session("step") == "the recording ends here")
    let last = try session("reverse-next")
    #expect(last.contains("fetch: qid 0"))
    #expect(try session("step").hasPrefix("#"))
    #expect(try session("reverse-step") == last)
    #expect(try session("goto begin").contains("checkpoint"))
    #expect(try session("reverse-step") == "the recording begins here")
    let first = try session("next")
    #expect(first.contains("opcode"))
    #expect(try session("next 3").contains("fetch"))
    #expect(try session("reverse-next 3") == first)
    #expect(try session("step pass").contains("#"))
    #expect(try session("reverse-finish 0/0") == first)
    #expect(try session("finish").contains("completion: cqid 0"))
    #expect(try session("reverse-finish") == first)
    // A time leads to the last event up to it.
    let time = try #require(first.split(separator: " ").dropFirst().first)
    #expect(try session("goto \(time)s") == first)
    #expect(try session("goto \(time)") == first)
    let number = try #require(first.split(separator: " ").first?.dropFirst())
    #expect(try session("goto \(number)") == first)
    let pass = try session("step pass")
    #expect(try session("step 2 pass") != pass)
    #expect(try session("reverse-step 2 pass") == pass)
  }

  @Test("mistakes are answered in one line that says what is possible")
  func mistakes() throws {
    let session = try Session(golden("qd1-read"))
    #expect(session.error("dance") == "there is no command 'dance'; help lists them")
    #expect(session.error("re").hasPrefix("'re' may mean reverse-step, reverse-next"))
    #expect(session.error("goto #99999999").hasPrefix("events have numbers from #0 to #"))
    #expect(session.error("goto nowhere").contains("is no place"))
    #expect(session.error("step 2 miles").contains("event, command or pass"))
    #expect(session.error("info weather").contains("see help info"))
    #expect(session.error("info co").contains("'co' may mean commands, command"))
    #expect(try session("info reg").contains("CAP"))
    #expect(session.error("info queue 9") == "there is no queue 9 here")
    #expect(try session("why 9/9") == "Command 9/9 has not been fetched, and there is no SQ 9 here.")
    #expect(session.error("finish 7/7") == "there is no command 7/7 up to here")
    #expect(session.error("info memory 0xffffffffffffffff 4096").contains("4096"))
    #expect(session.error("step 1 event more").contains("one word too many"))
    #expect(session.error("step 18446744073709551616").contains("is no unit"))
  }

  @Test("every command says something at every event of a short recording")
  func commandsEverywhere() throws {
    let session = try Session(golden("reset-in-flight"))
    let commands = [
      "info", "info queues", "info queue 1", "info commands", "info registers", "info interrupts", "info timers",
      "info namespaces", "why idle", "why 1/0", "why interrupt 0", "backtrace", "events 3", "info command",
    ]
    _ = try session("goto begin")
    for _ in 0..<200 where try session("step") != "the recording ends here" {
      // An answer or a reason, never silence.
      for command in commands { #expect(session.error(command) != "no error: ", "\(command)") }
    }
  }

  @Test("host memory is what the engine fetched, read, wrote and posted")
  func memory() throws {
    let session = try Session(golden("qd1-read"))
    _ = try session("next")
    let registers = try session("info registers")
    let line = try #require(registers.split(separator: "\n").first { $0.hasPrefix("ASQ") })
    let asq = try #require(line.split(separator: " ").dropFirst().first)
    let memory = try session("info memory \(asq) 16")
    // The admin queue's first entry: Set Features, opcode 09h.
    #expect(memory.contains(": 09 "))
    #expect(memory.contains(": fetch"))
    #expect(try session("info memory 0x10 16").contains("the trace does not know these bytes"))
  }

  // MARK: Breakpoints

  @Test("continue stops at the events that an expression selects, in both directions")
  func eventBreakpoints() throws {
    let session = try Session(golden("errors"))
    var failed: [UInt64] = []
    try session.events.forEach(from: 0) { number, record in
      if record.pointee.is(.completion), Event.Completion(record.pointee).status & 0x7ff != 0 { failed.append(number) }
      return false
    }
    #expect(failed.count > 3)
    #expect(try session("info problems").contains("completion with status lba-out-of-range, first #\(failed[0])"))
    #expect(try session("break event == completion && status != 0") == "breakpoint 1")
    #expect(try session("continue 2").contains("\n#\(failed[1]) "))
    #expect(try session("info breakpoints").hasSuffix("2 hits"))
    _ = try session("goto begin")
    for number in failed { #expect(try session("continue").contains("\n#\(number) ")) }
    #expect(try session("continue").hasPrefix("the recording ends"))
    for number in failed.reversed() { #expect(try session("reverse-continue").contains("\n#\(number) ")) }
    #expect(try session("reverse-continue").hasPrefix("the recording begins"))
    _ = try session("ignore 1 2")
    #expect(try session("continue").contains("\n#\(failed[2]) "))
    _ = try session("condition 1 status == lba-out-of-range && qid == 7")
    #expect(try session("info breakpoints").contains("if status == lba-out-of-range"))
    #expect(try session("continue").hasPrefix("the recording ends"))
    _ = try session("delete 1")
    #expect(session.error("delete 1") == "there are no breakpoints")
  }

  @Test("a state's breakpoint stops where it becomes true, wherever the search begins", arguments: goldenNames)
  func stateBreakpoints(_ name: String) throws {
    let session = try Session(golden(name))
    let engine = EngineAtEvent(session.events)
    var expected: [UInt64] = []
    var last = 0
    for point in session.events.first + 1...session.events.end {
      let count = try #require(try engine.state(at: point)).commands.filter { $0.qid == 1 }.count
      if count >= 1, last == 0 { expected.append(point - 1) }
      last = count
    }
    _ = try session("break sq[1].in-flight >= 1")
    var found: [UInt64] = []
    while true {
      let output = (try? session("continue")) ?? ""
      guard output.hasPrefix("breakpoint"),
        let line = output.split(separator: "\n").first(where: { $0.hasPrefix("#") }),
        let number = UInt64(line.dropFirst().prefix { $0.isNumber })
      else { break }
      found.append(number)
    }
    #expect(found == expected)
    for number in expected.reversed() {
      #expect(session.error("reverse-continue").contains("\n#\(number) "))
    }
  }

  @Test("changes of registers and queues, and times of commands, stop too")
  func otherBreakpoints() throws {
    let session = try Session(golden("bring-up"))
    #expect(try session("break register CC changes") == "breakpoint 1")
    #expect(try session("continue").contains("register-write"))
    #expect(try session("tbreak total >= 0").hasSuffix("commands meet it"))
    #expect(try session("info breakpoints").contains("temporary"))
    _ = try session("delete 1")
    #expect(try session("continue").contains("completion"))
    #expect(try session("info breakpoints") == "there are no breakpoints")
  }

  @Test("a wrong expression is shown with its mistake")
  func wrongExpressions() throws {
    let session = try Session(golden("errors"))
    #expect(session.error("break foo == 3") == "column 1: there is no 'foo'; help expressions lists the names")
    #expect(try session("help expressions").contains("cq[N].full"))
    #expect(session.error("break cq[1].full > 3us").contains("is a flag"))
    #expect(session.error("break total > 1us && cq[1].full").contains("cannot be combined"))
    #expect(session.error("break").contains("an expression is needed"))
    #expect(session.error("condition 5 qid == 1") == "there are no breakpoints")
  }

  @Test("in a recording of many chunks, backwards finds what forwards finds")
  func manyChunks() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("nvmepf-\(UUID()).nvpt").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    _ = try Simulation(seed: 7, commands: 6000).run(path: path)
    let reader = try TraceReader(path: path)
    let session = try Session(reader)
    let starts = reader.chunks.filter { $0.header.id.source == .engine && $0.header.beginsWithCheckpoint }
    try #require(starts.count > 2)
    let border = starts[1].header.firstEvent
    for condition in ["event == completion && status != 0", "total > 200us", "in-flight >= 6"] {
      _ = try session("break \(condition)")
      _ = try session("goto #\(border - 300)")
      var forward: [String] = []
      while forward.count < 40 { forward.append(try session("continue")) }
      #expect(forward.contains { $0.number < border } && forward.contains { $0.number > border }, "\(condition)")
      for stop in forward.dropLast().reversed() { #expect(try session("reverse-continue") == stop) }
      _ = try session("delete")
    }
    // Across a border of two chunks.
    _ = try session("goto #\(border - 40)")
    var passes: [String] = []
    for _ in 0..<60 { passes.append(try session("step pass")) }
    for pass in passes.dropLast().reversed() { #expect(try session("reverse-step pass") == pass) }
  }
}

extension String {
  /// The number of the event that it shows.
  fileprivate var number: UInt64 {
    split(separator: "\n").first { $0.hasPrefix("#") }.flatMap { UInt64($0.dropFirst().prefix { $0.isNumber }) } ?? 0
  }
}
