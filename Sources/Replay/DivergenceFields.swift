import EventTable
import EventWords
import Events
import NVMe
import Text

extension Divergence {
  /// The fields in which the engine's event differs from the recorded one of its kind, in the specification's names;
  /// inputs and times are not compared.
  static func fields(_ recorded: Record, _ engine: Record) -> [Field] {
    guard let kind = recorded.event, recorded.kind == engine.kind else { return [] }
    let (old, new) = (words(recorded), words(engine))
    let inputs = inputs(of: kind)
    var found: [Field] = []
    for name in old.map(\.name) + new.map(\.name).filter({ name in !old.contains { $0.name == name } })
    where !inputs.contains(name) {
      let (a, b) = (value(name, in: old), value(name, in: new))
      // A status has a name; its code would say the same.
      if a == b || name == "code" && found.contains(where: { $0.name == "status" }) { continue }
      found.append((title(name, kind, recorded), a, b))
    }
    return found.isEmpty ? rawFields(kind, recorded, engine) : found
  }

  private static func words(_ record: Record) -> [EventSentence.Word] {
    // The engine's event has no tail.
    var head = record
    head.tail = 0
    return EventSentence.words(&head)
  }

  private static func value(_ name: String, in words: [EventSentence.Word]) -> String {
    guard let word = words.first(where: { $0.name == name }) else { return "none" }
    return word.value ?? "yes"
  }

  /// Names of words that a replay takes from the recording.
  private static func inputs(of kind: EventKind) -> Set<String> {
    var names: Set<String> = []
    for field in kind.description.fields {
      if field.isAnswer { names.insert(field.name) }
      names.formUnion(field.bits.filter(\.isAnswer).map(\.name.hyphenated))
    }
    return names.contains("status") ? names.union(["code", "more", "do-not-retry"]) : names
  }

  /// As the specification writes it.
  private static func title(_ name: String, _ kind: EventKind, _ record: Record) -> String {
    if let known = titles[name] { return known }
    guard kind == .registerRead || kind == .registerWrite else { return name }
    let register = RegisterLayout.at(Event.RegisterRead(record).offset)
    return register?.fields.contains { $0.name == name } == true ? "\(register!.name).\(name)" : name
  }

  private static let titles = [
    "phase": "phase tag", "sqhd": "SQHD", "sqid": "SQID", "cid": "CID", "slba": "SLBA", "nsid": "NSID", "dw0": "DW0",
    "cqid": "completion queue", "qid": "queue", "more": "status field M", "do-not-retry": "status field DNR",
    "from-host": "from the host", "to-host": "to the host",
  ]

  /// The same by the event table, for places that no word tells.
  private static func rawFields(_ kind: EventKind, _ recorded: Record, _ engine: Record) -> [Field] {
    kind.description.fields.compactMap { field in
      let compared = ~field.bits.reduce(0 as UInt64) { $1.isAnswer ? $0 | UInt64($1.value) : $0 }
      guard !field.isAnswer, let old = recorded.value(of: field), let new = engine.value(of: field),
        old & compared != new & compared
      else { return nil }
      return (field.name, field.text(old), field.text(new))
    }
  }
}
