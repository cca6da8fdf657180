import EventTable
import EventWords
import Events
import Text

/// Writes events as lines for people, with raw values and then their meaning, or as JSON objects with both.
///
/// It contains only text of our own and numbers, so nothing needs an escape. It does not allocate per event.
public struct EventText: ~Copyable {
  /// The form of an event.
  public enum Form: Sendable {
    /// `     1234 engine/0 doorbell flags=0x0 qid=1 value=17 poll=35 # submission-tail`
    case line
    /// One JSON object per line; `meaning` contains the words.
    case json
  }

  /// What was written so far. The owner takes it out from time to time.
  public var buffer = TextBuffer()
  private let form: Form
  private var meaning = EventMeaning()

  public init(_ form: Form) { self.form = form }

  /// Append one event, with a line feed.
  public mutating func append(_ record: UnsafePointer<Record>, source: Source, stream: UInt16) {
    let kind = Int(record.pointee.kind)
    meaning.describe(record)
    switch form {
    case .line:
      let begin = buffer.count
      var digits = 1
      var time = record.pointee.time / 10
      while time > 0 { (digits, time) = (digits + 1, time / 10) }
      buffer.append(spaces: 13 - digits)
      buffer.append(record.pointee.time)
      appendStream(" ", source, "/", stream)
      assert(buffer.count > begin)
      buffer.append(" ")
      appendName(kind)
      appendFields(record, source)
      appendMeaning()
    case .json:
      buffer.append("{\"format\":\"nvmepf-dump/1\",\"time_ns\":")
      buffer.append(record.pointee.time)
      appendStream(",\"source\":\"", source, "\",\"stream\":", stream)
      buffer.append(",\"event\":\"")
      appendName(kind)
      buffer.append("\"")
      appendFields(record, source)
      appendMeaningObject()
      buffer.append("}")
    }
    buffer.append("\n")
  }

  private mutating func appendStream(_ before: String, _ source: Source, _ between: String, _ stream: UInt16) {
    buffer.append(before)
    buffer.append(EventText.sources[Int(source.rawValue)])
    buffer.append(between)
    buffer.append(UInt64(stream))
  }

  private mutating func appendName(_ kind: Int) {
    if let name = EventText.names[kind] { return buffer.append(name) }
    buffer.append("unknown-")
    buffer.append(UInt64(kind))
  }

  private mutating func appendFields(_ record: UnsafePointer<Record>, _ source: Source) {
    let bytes = UnsafeRawPointer(record)
    let length = (1 + Int(record.pointee.tail)) * Record.size
    let isJSON = form == .json
    for field in EventText.fields[Int(record.pointee.kind)] {
      guard field.offset + field.width <= length else { continue }
      let value = bytes.number(at: field.offset, width: field.width)
      if !field.isStartingBlock {
        append(field, value)
      } else if record.pointee.qid == 0 {
        // Admin commands have no blocks; they use these fields of the entry for other purposes.
        guard field.isInTail else { continue }
        append(isJSON ? ",\"cdw10\":" : " cdw10=", value & 0xffff_ffff, isHexadecimal: !isJSON)
        append(isJSON ? ",\"cdw11\":" : " cdw11=", value >> 32, isHexadecimal: !isJSON)
      } else if source != .host {
        // Our own host does not record the blocks that it requests.
        append(field, value)
      }
    }
  }

  private mutating func append(_ field: Field, _ value: UInt64) {
    guard form == .json else { return append(field.label, value, isHexadecimal: field.isHexadecimal) }
    append(field.member, value, isHexadecimal: false)
    if field.isWide { buffer.append("\"") }
  }

  private mutating func append(_ label: String, _ value: UInt64, isHexadecimal: Bool) {
    buffer.append(label)
    if isHexadecimal { buffer.append(hex: value) } else { buffer.append(value) }
  }

  private mutating func appendMeaning() {
    var before = " # "
    for (name, value) in meaning.words {
      buffer.append(before)
      buffer.append(name)
      switch value {
      case .flag: break
      case .name(let text):
        buffer.append(" ")
        buffer.append(text)
      case .number(let number), .wide(let number):
        buffer.append(" ")
        buffer.append(number)
      case .hexadecimal(let number):
        buffer.append(" ")
        buffer.append(hex: number)
      }
      before = ", "
    }
  }

  private mutating func appendMeaningObject() {
    guard !meaning.words.isEmpty else { return }
    var before = ",\"meaning\":{\""
    for (name, value) in meaning.words {
      buffer.append(before)
      buffer.append(name)
      buffer.append("\":")
      switch value {
      case .flag: buffer.append("true")
      case .name(let text):
        buffer.append("\"")
        buffer.append(text)
        buffer.append("\"")
      case .number(let number), .hexadecimal(let number): buffer.append(number)
      case .wide(let number):
        buffer.append("\"")
        buffer.append(number)
        buffer.append("\"")
      }
      before = ",\""
    }
    buffer.append("}")
  }

  // MARK: Tables by kind

  private struct Field: Sendable {
    /// ` qid=`
    let label: String
    /// `,"qid":`, and the quotation mark before a string.
    let member: String
    /// A number of 64 bits, which JSON contains as a string.
    let isWide: Bool
    let offset: Int
    let width: Int
    let isHexadecimal: Bool
    let isStartingBlock: Bool
    var isInTail: Bool { offset >= Record.size }

    init(_ field: EventField) {
      label = " \(field.name)="
      (offset, width) = field.place.location
      isWide = width == 8
      member = ",\"\(field.name)\":" + (isWide ? "\"" : "")
      isHexadecimal = field.unit == .hexadecimal
      isStartingBlock = field.name == "slba"
    }
  }

  private static let fields: [[Field]] = {
    var table = [[Field]](repeating: [], count: 256)
    for event in eventTable { table[Int(event.kind)] = event.fields.map(Field.init) }
    return table
  }()

  private static let names: [String?] = {
    var table = [String?](repeating: nil, count: 256)
    for event in eventTable { table[Int(event.kind)] = event.name }
    return table
  }()

  private static let sources: [String] = {
    var table = [String](repeating: "", count: 256)
    for source in Source.allCases { table[Int(source.rawValue)] = "\(source)" }
    return table
  }()
}
