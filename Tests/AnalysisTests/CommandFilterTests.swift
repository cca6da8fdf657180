import Events
import Evidence
import Expressions
import NVMe
import Testing
import Trace

@testable import Analysis

/// A golden trace, and whose commands it has.
struct GoldenTrace: CustomStringConvertible {
  let name: String
  var subject = Subject.endpoint
  var description: String { name }

  static let all = [
    GoldenTrace(name: "qd1-read"), GoldenTrace(name: "qd32-mixed"), GoldenTrace(name: "errors"),
    GoldenTrace(name: "two-queues"), GoldenTrace(name: "coalescing"), GoldenTrace(name: "reset-in-flight"),
    GoldenTrace(name: "nvmet-pci-epf", subject: .controller(1)),
  ]

  var reader: TraceReader {
    get throws {
      let path = #filePath.replacing("Tests/AnalysisTests/CommandFilterTests.swift", with: "traces/\(name).nvpt")
      return try TraceReader(path: path)
    }
  }

  /// The finished commands that the filter selects, admin commands included.
  func commands(_ filter: CommandFilter? = nil) throws -> [CommandTimes] {
    var commands: [CommandTimes] = []
    _ = try Summary(of: reader, subject, filter: filter) { commands.append(copy $0) }
    return commands
  }
}

@Suite("Filters of commands")
struct CommandFilterTests {
  @Test("a finished command has every value that its trace contains; an unfinished one only what is known of it")
  func values() throws {
    for trace in GoldenTrace.all {
      for command in try trace.commands() {
        for definition in Vocabulary.commands.definitions {
          let place = try #require(try? Expression(condition(definition), .commands)).variables[0].place
          let whole = command.value(of: place)
          let known = command.facts.value(of: place)
          // Values of the facts do not depend on the end.
          #expect(known == nil || known == whole, "\(definition.name)")
          if case .time = definition.kind { #expect(known == nil, "\(definition.name)") }
        }
        let stages = try Stage.allCases.map { try #require(command.value(of: .stage($0))) }
        let (total, rest) = (command.value(of: .total), command.value(of: .unexplained))
        #expect(total == stages.reduce(0, +) + (rest ?? 0))
      }
    }
  }

  /// A condition with this name.
  private func condition(_ definition: Vocabulary<CommandValue>.Definition) -> String {
    if case .flag = definition.kind { definition.name } else { "\(definition.name) == 1" }
  }

  @Test("a command without an end is selected by what is known of it, never by times, success or failure")
  func unfinished() throws {
    let command = CommandFacts(
      qid: 1, cid: 7, opcode: 2, request: CommandRequest(), status: nil, events: CommandEvents())
    for text in ["qid == 1", "cid == 7", "qid == 1 && cid != 8", "!(total > 0)", "!(status == success)"] {
      #expect(try CommandFilter(text).selectsUnfinished(command), "\(text)")
    }
    for text in [
      "total > 0", "total <= 1s", "status == success", "status != success", "failed", "end >= 0", "cid == 8",
    ] {
      #expect(try !CommandFilter(text).selectsUnfinished(command), "\(text)")
    }
  }

  @Test(
    "each condition selects what it says", arguments: [GoldenTrace(name: "errors"), GoldenTrace(name: "qd32-mixed")])
  func selects(trace: GoldenTrace) throws {
    let all = try trace.commands()
    func expect(_ condition: String, _ isMeant: (CommandTimes) -> Bool) throws {
      let filter = try CommandFilter(condition)
      let wanted = all.filter(isMeant).map(\.facts)
      #expect(try trace.commands(filter).map(\.facts) == wanted)
      #expect(wanted.count < all.count)
    }
    let middle = all[all.count / 2]
    try expect("failed") { $0.facts.status?.isSuccess == false }
    try expect("!failed && total > \(middle.total)") { $0.facts.status?.isSuccess != false && $0.total > middle.total }
    try expect("status == lba-out-of-range") { $0.facts.status?.code == 0x80 }
    try expect("opcode == read") { $0.qid != .admin && $0.opcode == 2 }
    try expect("opcode == identify") { $0.qid == .admin && $0.opcode == 6 }
    try expect("opcode == 2") { $0.opcode == 2 }
    try expect("qid == 1") { $0.qid.rawValue == 1 }
    try expect("cid == 3") { $0.cid.rawValue == 3 }
    try expect("nsid == 1") { $0.facts.request.nsid == 1 }
    try expect("slba in 8..23") { $0.facts.request.range?.overlaps(8...23) ?? false }
    try expect("blocks >= 1") { $0.facts.request.range != nil }
    try expect("bytes >= 4KiB") { $0.bytesFromHost + $0.bytesToHost >= 4096 }
    try expect("end >= \(middle.end)") { $0.end >= middle.end }
    try expect("begin < \(middle.begin)") { $0.begin < middle.begin }
    try expect("stage.execute > \(middle.stages[.execute])") { $0.stages[.execute] > middle.stages[.execute] }
    try expect("stage.detect.waiting > 0") { $0.waiting[.detect] > 0 }
    try expect("stage.fetch > stage.complete") { $0.stages[.fetch] > $0.stages[.complete] }
  }

  @Test("a filter and its complement add up to the whole", arguments: GoldenTrace.all)
  func complements(trace: GoldenTrace) throws {
    let whole = try Summary(of: trace.reader, trace.subject)
    #expect(whole.io.commands > 0)
    let middle = whole.io.latency.p50Ns
    let pairs = [
      ("total > \(middle)", "!(total > \(middle))"),
      ("stage.complete >= \(whole.io[.complete].p50Ns)", "stage.complete < \(whole.io[.complete].p50Ns)"),
    ]
    for (one, other) in pairs {
      let parts = try [one, other].map {
        try Summary(of: trace.reader, trace.subject, filter: CommandFilter($0))
      }
      func sum(_ value: (Summary) -> UInt128) -> UInt128 { parts.reduce(0) { $0 + value($1) } }
      #expect(sum { UInt128($0.io.commands) } == UInt128(whole.io.commands))
      #expect(sum { $0.io.latency.sumNs } == whole.io.latency.sumNs)
      #expect(sum { $0.io.unexplained.sumNs } == whole.io.unexplained.sumNs)
      for stage in Stage.allCases { #expect(sum { $0.io[stage].sumNs } == whole.io[stage].sumNs) }
      #expect(sum { UInt128($0.io.failed) } == UInt128(whole.io.failed))
      #expect(sum { UInt128($0.adminCommands) } == UInt128(whole.adminCommands))
      for part in parts { #expect(part.among == whole.io.commands) }
    }
  }

  @Test("windows add up to the whole", arguments: GoldenTrace.all)
  func windows(trace: GoldenTrace) throws {
    let whole = try Summary(of: trace.reader, trace.subject)
    for parts in [1, 7, 500] as [UInt64] {
      let length = max(whole.io.durationNs / parts, 1)
      let summary = try Summary(of: trace.reader, trace.subject, windowNs: length)
      let windows = try #require(summary.windows?.values)
      #expect(windows.reduce(0) { $0 + $1.commands } == whole.io.commands)
      #expect(windows.reduce(0) { $0 + $1.failed } == whole.io.failed)
      #expect(windows.reduce(0) { $0 + $1.sumNs } == whole.io.latency.sumNs)
      // Each command is in flight for its latency.
      let inFlight = windows.reduce(0) { $0 + $1.depth * Double($1.toNs - $1.fromNs) }
      #expect(abs(inFlight - Double(whole.io.latency.sumNs)) <= 1e-6 * inFlight)
      for (window, next) in zip(windows, windows.dropFirst()) { #expect(window.toNs == next.fromNs) }
      for window in windows {
        #expect((window.p50Ns != nil) == (window.commands >= 10))
        #expect((window.p99Ns != nil) == (window.commands >= 1000))
      }
    }
  }

  @Test("more windows than a report has lines give none, in bounded memory")
  func tooManyWindows() throws {
    let trace = GoldenTrace(name: "qd1-read")
    let windows = try #require(try Summary(of: trace.reader, windowNs: 1).windows)
    #expect(windows.values == nil)
    #expect(windows.count > TimeWindows.countMax)
  }
}

@Suite("The events of a command")
struct CommandEventTests {
  /// For each event of the trace, the chosen commands that it belongs to.
  private func owners(_ commands: [CommandTimes], _ trace: GoldenTrace) throws -> [[Int]] {
    let reader = try trace.reader
    var finder = CommandEventFinder(commands.map { .init($0.facts) }, trace.subject)
    var events = try MergedEvents(reader)
    var owners: [[Int]] = []
    while let (record, id) = try events.next() {
      owners.append([])
      finder.ingest(record, id) { owners[owners.count - 1].append($0) }
    }
    return owners
  }

  @Test("an event that names a command belongs to one, and every command has its own", arguments: GoldenTrace.all)
  func partition(trace: GoldenTrace) throws {
    let commands = try trace.commands()
    let owners = try owners(commands, trace)
    var events = try MergedEvents(try trace.reader)
    var position = 0
    var fetched = Set<Int>()
    while let (record, _) = try events.next() {
      let found = owners[position]
      #expect(Set(found).count == found.count)
      if record.pointee.is(.fetch) {
        #expect(found.count <= 1)
        for index in found {
          #expect(commands[index].qid.rawValue == record.pointee.qid)
          #expect(commands[index].cid.rawValue == record.pointee.cid)
          fetched.insert(index)
        }
      }
      position += 1
    }
    #expect(fetched.count == commands.count)
  }

  @Test("the events of a filter and of its complement are those of all commands", arguments: GoldenTrace.all)
  func complements(trace: GoldenTrace) throws {
    let all = try trace.commands()
    let middle = all.map(\.total).sorted()[all.count / 2]
    let parts = try ["total >= \(middle)", "total < \(middle)"].map { try trace.commands(CommandFilter($0)) }
    let whole = try owners(all, trace)
    let (slow, fast) = (try owners(parts[0], trace), try owners(parts[1], trace))
    for event in whole.indices { #expect(whole[event].count == slow[event].count + fast[event].count) }
  }

  @Test("the life of a command leads from its doorbell to its last stage", arguments: GoldenTrace.all)
  func life(trace: GoldenTrace) throws {
    let commands = try trace.commands().filter { $0.qid != .admin }
    var slowest = SlowestCommands(3)
    for command in commands { slowest.add(command) }
    #expect(slowest.commands.map(\.total) == Array(commands.map(\.total).sorted(by: >).prefix(3)))
    for life in try CommandLife.read(slowest.commands, of: trace.reader, trace.subject) {
      let times = life.times
      #expect(life.events.map(\.time) == life.events.map(\.time).sorted())
      #expect(life.events.contains { $0.time == times.begin || $0.time - spanOfFetch($0) == times.begin })
      let kinds = life.events.compactMap { $0.slots[0].event }
      #expect(kinds.filter { $0 == .fetch }.count == 1)
      #expect(kinds.contains(.completion))
      let ended = life.events.compactMap(\.stage)
      #expect(Set(ended).count == ended.count)
      for stage in [Stage.fetch, .execute, .complete, .reap] where times.stages[stage] > 0 {
        #expect(ended.contains(stage))
      }
    }
  }

  private func spanOfFetch(_ event: LifeEvent) -> UInt64 {
    event.slots[0].is(.fetch) ? UInt64(Event.Fetch(event.slots[0]).span) : 0
  }

  @Test("commands that reuse a name have separate events")
  func reuse() throws {
    var script = Script.enabled()
    for number in 0..<3 as Range<UInt64> {
      let begin = 1000 * (number + 1)
      script.tail(at: begin, UInt32(number + 1))
      script.fetch(at: begin + 10, cid: 7, slot: UInt32(number))
      script.completion(at: begin + 20, cid: 7)
      script.head(at: begin + 30, UInt32(number + 1))
    }
    let facts = script.run().commands.map(\.facts)
    #expect(facts.map(\.events.seen) == [2, 6, 10])
    #expect(facts.map(\.events.first) == [3, 7, 11])
    #expect(facts.map(\.events.last) == [5, 9, 13])
  }
}
