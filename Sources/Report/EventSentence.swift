import EventTable
import Events
import Text

/// An event in a few words, for a reader who follows one event after the other: names first, then what the event says.
public enum EventSentence {
  /// Fields whose meaning the words give, or that say nothing to a reader.
  private static let leftOut: Set = ["flags", "opcode", "dw1", "dw2", "dw3", "digest", "poll", "blockshift"]

  /// "completion: cqid 1, cid 5, sqid 1, sqhd 6, phase 1, status success".
  public static func text(_ record: UnsafePointer<Record>) -> String {
    guard let kind = record.pointee.event else { return "unknown-\(record.pointee.kind)" }
    var meaning = EventMeaning()
    meaning.describe(record)
    let named = Set(meaning.words.map(\.name))
    let fields = kind.description.fields.compactMap { field -> String? in
      guard !leftOut.contains(field.name), !named.contains(field.name), field.values.isEmpty, field.bits.isEmpty,
        !(field.name == "cid" && kind == .interrupt), let value = record.pointee.value(of: field)
      else { return nil }
      return text(field, value, isAdmin: record.pointee.qid == 0)
    }
    let words = fields + meaning.words.map(text)
    return words.isEmpty ? kind.description.name : "\(kind.description.name): \(words.joined(separator: ", "))"
  }

  /// - Returns: nil if the value says nothing.
  private static func text(_ field: EventField, _ value: UInt64, isAdmin: Bool) -> String? {
    if field.unit == .span { return value == 0 ? nil : "\(field.name) \(Quantity.time(value))" }
    if field.name == "dw0" || field.name == "span", value == 0 { return nil }
    // Admin commands have no blocks.
    if isAdmin, field.name == "slba" || field.name == "blocks" { return nil }
    return "\(field.name) \(field.unit == .bytes ? Quantity.count(value) : field.text(value))"
  }

  private static func text(_ word: (name: String, value: EventMeaning.Value)) -> String {
    switch word.value {
    case .flag: word.name
    case .name(let text): "\(word.name) \(text)"
    case .number(let number), .wide(let number): "\(word.name) \(number)"
    case .hexadecimal(let number): "\(word.name) \(number.hex)"
    }
  }
}
