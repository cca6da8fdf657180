import Analysis
import Debugger
import EventTable
import Events
import Evidence
import Expressions
import Glibc
import Merge
import Replay
import Report
import Trace

/// A trace of any bytes is read, checked, replayed, analysed, printed, repaired and merged as far as it goes, or refused.
@_cdecl("fuzz_trace")
public func fuzzTrace(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  let path = "/dev/shm/nvmepf-fuzz-\(getpid())"
  let file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
  precondition(file >= 0 && write(file, data, count) == count, "no room for the trace")
  close(file)
  defer { unlink(path) }
  repair(path)
  guard let reader = try? TraceReader(path: path) else { return 0 }
  _ = try? reader.findDamage()
  _ = reader.totals
  replay(reader)
  debug(reader)
  analyse(reader, .endpoint, .queue)
  for controller in (try? KernelController.all(in: reader))?.prefix(2) ?? [] {
    analyse(reader, .controller(controller.controller), .opcode)
    if let replay = try? DriverReplay(reader, controller: controller.controller) { _ = replay.run() }
  }
  dump(reader)
  merge(reader)
  return 0
}

/// What a repair makes is a whole trace.
private func repair(_ path: String) {
  let repaired = path + "-repaired"
  defer { unlink(repaired) }
  guard let report = try? TraceRepair.repair(path, output: repaired) else { return }
  guard let reader = try? TraceReader(path: repaired) else { preconditionFailure("a repaired trace cannot be read") }
  precondition(reader.isComplete && reader.chunks.count >= report.chunksKept, "a repaired trace is not whole")
  if let damage = try? reader.findDamage() { preconditionFailure("a repaired trace: \(damage)") }
}

private func replay(_ reader: TraceReader) {
  for (id, chunks) in reader.streams where id.source == .engine {
    guard var replayer = try? Replayer(stream: id.stream, isClosed: reader.isClosed, chunks: reader.source(of: chunks))
    else { continue }
    if let result = try? replayer.run() { _ = result.divergence.map { "\($0)" } }
  }
}

/// Every command of the debugger, at both ends of the recording and in the middle.
private func debug(_ reader: TraceReader) {
  debug(try? Debugger.open(reader, write: { _ in }))
  // The kernel's streams of a trace that has an engine's too.
  if let controller = (try? KernelController.all(in: reader))?.first?.controller {
    debug(try? Debugger.open(reader, controller: controller, write: { _ in }))
  }
}

private func debug(_ debugger: Debugger?) {
  guard let debugger else { return }
  debugger.introduce()
  for place in ["goto begin", "goto 1ms", "goto #40", "goto end"] {
    for line in [place] + debuggerLines { _ = try? debugger.perform(line) }
  }
}

private let debuggerLines = [
  "info", "info queues", "info queue 1", "info commands", "info registers", "info interrupts", "info timers",
  "info namespaces", "info host", "info memory 0x7f0000001000 64", "why idle", "why oldest", "why interrupt 1",
  "why 1/0", "backtrace 1/0", "info command 1/0", "info works", "info transfers", "info transfers 1/0", "info twin",
  "info problems", "events 5", "step 3 pass", "reverse-step 2 pass", "next",
  "reverse-next", "finish", "reverse-finish", "break cq[1].full || sq[1].head changes", "continue",
  "break event == completion && qid == 1", "reverse-continue", "tbreak total > 1us", "continue",
  "condition 1 register CSTS != 1", "ignore 1 2", "reverse-continue", "delete", "help",
]

/// Asks for every value of a command.
private let filter = CommandFilter(
  Vocabulary.commands.definitions.compactMap { try? Expression("!(\($0.name) == 1) || total > 5us", .commands) })

private func analyse(_ reader: TraceReader, _ subject: Subject, _ grouping: Grouping) {
  var analyzer = StageAnalyzer(grouping: grouping, subject: subject, filter: filter, windowNs: 1 << 20)
  var slowest = SlowestCommands(4)
  analyzer.onCommand = { slowest.add($0) }
  try? analyzer.ingestAll(of: reader)
  let lives = (try? CommandLife.read(slowest.commands, of: reader, subject)) ?? []
  _ = Report.text(analyzer.summary(), lives)
}

/// They ask for every value of an event.
private let eventConditions = Vocabulary.events.definitions.compactMap { definition in
  (try? Expression("\(definition.name) == 1", .events)) ?? (try? Expression(definition.name, .events))
}

private func dump(_ reader: TraceReader) {
  guard var events = try? MergedEvents(reader) else { return }
  var text = EventText(.line)
  var left = 2000
  while left > 0, let (record, id) = try? events.next() {
    left -= 1
    text.append(record, source: id.source, stream: id.stream)
    let values = EventValues(record, source: id.source, stream: id.stream)
    for condition in eventConditions { _ = condition.holds { values.value(of: $0) } }
    for field in record.pointee.event?.description.fields ?? [] {
      if let value = record.value(of: field) { _ = field.text(value) }
    }
  }
}

/// With itself, as its host and as its target: what both saw is the same.
private func merge(_ reader: TraceReader) {
  guard reader.streams.contains(where: { $0.id.source == .kernel }) else { return }
  let merged = "/dev/shm/nvmepf-fuzz-\(getpid())-merged"
  defer { unlink(merged) }
  guard let merge = try? TraceMerge(host: reader, target: reader), (try? merge.write(to: merged)) != nil,
    let both = try? TraceReader(path: merged)
  else { return }
  analyse(both, .endpoint, .queue)
}
