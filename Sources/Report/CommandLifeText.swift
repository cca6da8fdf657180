import Analysis
import EventWords
import Events
import Evidence
import Text

/// The life of one command: what it asked for, its stages, and each event with the time since its beginning.
struct CommandLifeText {
  let life: CommandLife
  private var times: CommandTimes { life.times }
  var facts: CommandFacts { life.times.facts }

  init(_ life: CommandLife) { self.life = life }

  /// Ends without a line feed.
  var text: String {
    let rows = life.events.map { event in
      (
        offset: signed(event), stage: event.stage?.name ?? "", source: "\(event.id.source)/\(event.id.stream)",
        event: description(of: event)
      )
    }
    let offsets = max(rows.map(\.offset.count).max() ?? 0, 2)
    let stages = max(rows.map(\.stage.count).max() ?? 0, 4)
    let sources = max(rows.map(\.source.count).max() ?? 0, 4)
    func row(_ offset: String, _ stage: String, _ source: String, _ event: String) -> String {
      "  \(left(offsets - offset.count))\(offset)  \(stage)\(left(stages - stage.count))  "
        + "\(source)\(left(sources - source.count))  \(event)"
    }
    var lines = [wrapped(heading), wrapped("  " + stageTimes), "", row("ns", "ends", "from", "event")]
    lines += rows.map { row($0.offset, $0.stage, $0.source, $0.event) }
    if life.eventsLeft > 0 { lines.append("  \(Quantity.count(life.eventsLeft, "more event"))") }
    lines += waitLines
    return lines.joined(separator: "\n")
  }

  /// "Command 17 of queue 1 took 123 µs: opcode read, nsid 1, slba 8, blocks 8, status success; it began at 1234 ns."
  private var heading: String {
    let what = requestWords.map { "\($0) \($1)" }.joined(separator: ", ")
    return "Command \(facts.cid) of queue \(facts.qid) took \(Quantity.time(times.total)): \(what); "
      + "it began at \(times.begin) ns."
  }

  private var requestWords: [(String, String)] {
    var words: [(String, String)] = []
    if let opcode = facts.opcode { words.append(("opcode", facts.opcodeName(opcode))) }
    if let nsid = facts.request.nsid, nsid != 0 { words.append(("nsid", "\(nsid)")) }
    if let slba = facts.request.slba { words += [("slba", "\(slba)"), ("blocks", "\(facts.request.blocks)")] }
    if let status = facts.status { words.append(("status", status.name ?? status.code.hex)) }
    return words
  }

  private var stageTimes: String {
    let stages = Stage.allCases.filter { times.stages[$0] > 0 }.map { "\($0.name) \(Quantity.time(times.stages[$0]))" }
    let rest = times.unexplained > 0 ? ["unexplained \(Quantity.time(times.unexplained))"] : []
    return (stages + rest).joined(separator: ", ")
  }

  /// Nanoseconds since the command began.
  private func signed(_ event: LifeEvent) -> String {
    event.time < times.begin
      ? "-\(Quantity.count(times.begin - event.time))" : Quantity.count(event.time - times.begin)
  }

  private func left(_ count: Int) -> String { String(repeating: " ", count: max(0, count)) }

  private func description(of event: LifeEvent) -> String {
    let words = meaning(of: event).words.map { word in
      switch word.value {
      case .flag: word.name
      case .name(let text): "\(word.name) \(text)"
      case .number(let number), .wide(let number): "\(word.name) \(number)"
      case .hexadecimal(let number): "\(word.name) \(number.hex)"
      }
    }
    let all = (words + sizes(of: event)).joined(separator: ", ")
    return all.isEmpty ? event.kindName : "\(event.kindName): \(all)"
  }

  /// How much it moved, and how long that took.
  private func sizes(of event: LifeEvent) -> [String] {
    let names: Set = ["segments", "length", "span", "queued", "entries"]
    return (event.slots[0].event?.description.fields ?? []).compactMap { field in
      guard names.contains(field.name), let value = event.slots[0].value(of: field), value > 0 else { return nil }
      let isTime = field.unit == .span
      return "\(field.name) \(isTime ? Quantity.time(value) : "\(value)")"
    }
  }

  private func meaning(of event: LifeEvent) -> EventMeaning {
    var meaning = EventMeaning()
    event.slots.withUnsafeBufferPointer { meaning.describe($0.baseAddress!) }
    return meaning
  }

  /// The same for programs.
  var object: JSON {
    let opcode = facts.opcode.map { [("opcode", JSON.string(facts.opcodeName($0)))] } ?? []
    let status = facts.status.map { [("status", JSON.string($0.name ?? $0.code.hex))] } ?? []
    let identity: [(String, JSON)] = [("qid", .integer(facts.qid)), ("cid", .integer(facts.cid))] + opcode + status
    let stages = Stage.allCases.map { ($0.name, JSON.integer(times.stages[$0])) }
    return .object(
      identity + [
        ("begin_ns", .integer(times.begin)), ("total_ns", .integer(times.total)), ("stages_ns", .object(stages)),
        ("unexplained_ns", .integer(times.unexplained)), ("events", .array(life.events.map(object))),
        ("events_left_out", .integer(life.eventsLeft)),
      ] + (life.waits.isEmpty ? [] : [("waits", waits)]))
  }

  private func object(_ event: LifeEvent) -> JSON {
    let words = meaning(of: event).words.map { word -> (String, JSON) in
      switch word.value {
      case .flag: (word.name, .boolean(true))
      case .name(let text): (word.name, .string(text))
      case .number(let number), .hexadecimal(let number): (word.name, .integer(number))
      case .wide(let number): (word.name, .string("\(number)"))
      }
    }
    return .object(
      [
        ("time_ns", .integer(event.time)), ("source", .string("\(event.id.source)")),
        ("stream", .integer(event.id.stream)), ("event", .string(event.kindName)),
      ] + (event.stage.map { [("ends", .string($0.name))] } ?? [])
        + (words.isEmpty ? [] : [("meaning", .object(words))])
    )
  }
}

extension LifeEvent {
  fileprivate var kindName: String { slots[0].event?.description.name ?? "unknown-\(slots[0].kind)" }
}
