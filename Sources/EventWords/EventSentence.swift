import EventTable
import Events
import Text

/// An event in a few words, for a reader who follows one event after the other: names first, then what the event says.
public enum EventSentence {
  /// Fields whose meaning the words give, or that say nothing to a reader.
  private static let leftOut: Set = [
    "flags", "opcode", "dw1", "dw2", "dw3", "digest", "poll", "blockshift", "detail", "rule",
  ]

  /// A word and its value; nil if the word says all.
  public typealias Word = (name: String, value: String?)

  /// "completion: cqid 1, cid 5, sqid 1, sqhd 6, phase 1, status success".
  public static func text(_ record: UnsafePointer<Record>) -> String {
    guard let kind = record.pointee.event else { return "unknown-\(record.pointee.kind)" }
    let words = words(record).map { $0.name + ($0.value.map { " \($0)" } ?? "") }
    return words.isEmpty ? kind.description.name : "\(kind.description.name): \(words.joined(separator: ", "))"
  }

  /// What the sentence says of an event, after its kind.
  public static func words(_ record: UnsafePointer<Record>) -> [Word] {
    guard let kind = record.pointee.event else { return [] }
    if kind == .doorbell {
      let doorbell = Event.Doorbell(record.pointee)
      let isHead = doorbell.flags.contains(.completionHead)
      return [(isHead ? "CQ" : "SQ", "\(doorbell.qid)"), (isHead ? "head" : "tail", "\(doorbell.value)")]
    }
    var meaning = EventMeaning()
    meaning.describe(record)
    let named = Set(meaning.words.map(\.name))
    let fields = kind.description.fields.compactMap { field -> Word? in
      guard !leftOut.contains(field.name), !named.contains(field.name), field.values.isEmpty, field.bits.isEmpty,
        !(kind == .submit && field.name == "slba"), field.name != "ended",
        !(field.name == "cid" && kind == .interrupt), let value = record.pointee.value(of: field),
        let text = text(field, value, isAdmin: record.pointee.qid == 0)
      else { return nil }
      return (field.name, text)
    }
    return fields + meaning.words.map(word)
  }

  /// - Returns: nil if the value says nothing.
  private static func text(_ field: EventField, _ value: UInt64, isAdmin: Bool) -> String? {
    if field.unit == .span { return value == 0 ? nil : Quantity.time(value) }
    if ["dw0", "span", "bytes"].contains(field.name), value == 0 { return nil }
    if field.unit == .bytes, value == .max { return "all" }
    // Admin commands have no blocks.
    if isAdmin, field.name == "slba" || field.name == "blocks" { return nil }
    return field.unit == .bytes ? Quantity.count(value) : field.text(value)
  }

  private static func word(_ word: (name: String, value: EventMeaning.Value)) -> Word {
    switch word.value {
    case .flag: (word.name, nil)
    case .name(let text): (word.name, text)
    case .number(let number), .wide(let number): (word.name, "\(number)")
    case .hexadecimal(let number): (word.name, number.hex)
    }
  }
}
