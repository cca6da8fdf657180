import EventTable
import Text

/// `EventKind`, and `Event` with a type for each kind.
func swiftSource() -> String {
  """
  // Made from the event table by event-generator.

  /// What can stand in a trace. The numbers are the file format's and never change their meaning.
  public enum EventKind: UInt8, CaseIterable, Sendable {
  \(lines(eventTable, indent: 1) { "case \($0.caseName) = \($0.kind)" })
  }

  /// The events, a type for each kind.
  public enum Event {
  \(lines(eventTable, indent: 1, between: "\n\n") { $0.type })
  }

  """
}

private func lines<T>(_ items: [T], indent: Int, between: String = "\n", _ text: (T) -> String) -> String {
  let margin = String(repeating: "  ", count: indent)
  let parts = items.map { text($0).split(separator: "\n", omittingEmptySubsequences: false) }
  return parts.map { $0.map { $0.isEmpty ? "" : margin + $0 }.joined(separator: "\n") }.joined(separator: between)
}

extension EventDescription {
  /// `completion-queue-full` as `completionQueueFull`.
  fileprivate var caseName: String {
    let words = name.split(separator: "-")
    return words[0] + words.dropFirst().map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
  }

  private var typeName: String { caseName.prefix(1).uppercased() + caseName.dropFirst() }

  /// It names its command.
  private var isOfCommand: Bool { ["qid", "cid"].allSatisfy { name in recordFields.contains { $0.name == name } } }

  fileprivate var type: String {
    """
    /// \(meaning)
    public struct \(typeName): \(isOfCommand ? "CommandEvent" : "RecordedEvent") {
      public static var kind: EventKind { .\(caseName) }
      @inline(__always)
      public static var compared: RecordMask { RecordMask(\(mask)) }

      public var time: UInt64
    \(lines(recordFields, indent: 1) { "/// \($0.meaning)\npublic var \($0.name): \($0.swiftType)" })

      @inline(__always)
      public init(
        time: UInt64 = 0\(recordFields.map { ", \($0.name): \($0.swiftType) = \($0.swiftDefault)" }.joined())
      ) {
        self.time = time
    \(lines(recordFields, indent: 2) { "self.\($0.name) = \($0.name)" })
      }

      @inline(__always)
      public init(_ record: Record) {
        time = record.time
    \(lines(recordFields, indent: 2) { "\($0.name) = \($0.fromRecord)" })
      }

      @inline(__always)
      public var record: Record {
        Record(
          time: time, kind: Self.kind\(words(pair: "Record.pair", \.toRecord).map { ", \($0.name): \($0.value)" }.joined()))
      }
    \(lines(recordFields.compactMap(\.nestedType), indent: 1) { $0 })
    }
    """
  }

  /// The bits that the engine decides.
  private var mask: String {
    var flags: UInt64 = 0xff
    if let field = field(at: .flags) {
      flags = field.isAnswer ? 0 : flags
      for bit in field.bits where bit.isAnswer { flags &= ~UInt64(bit.value) }
    }
    func bits(_ place: FieldPlace, _ all: UInt64) -> UInt64 { field(at: place)?.isAnswer ?? false ? 0 : all }
    func word(_ whole: FieldPlace, _ low: FieldPlace, _ high: FieldPlace) -> UInt64 {
      bits(whole, .max) & (bits(low, 0xffff_ffff) | bits(high, 0xffff_ffff) << 32)
    }
    let parts = [
      ("flags", flags), ("qid", bits(.qid, 0xffff)), ("cid", bits(.cid, 0xffff)),
      ("a", word(.a, .aLow, .aHigh)), ("b", word(.b, .bLow, .bHigh)),
    ]
    return parts.map { "\($0.0): \($0.1.hex)" }.joined(separator: ", ")
  }
}

extension EventField {
  private var width: String { "UInt\(place.location.width * 8)" }
  private var isNamed: Bool { !bits.isEmpty || !values.isEmpty }

  fileprivate var swiftType: String { bits.isEmpty ? values.isEmpty ? width : "Choice" : "Flags" }
  fileprivate var swiftDefault: String { bits.isEmpty ? values.isEmpty ? "0" : "Choice(rawValue: 0)" : "[]" }
  fileprivate var fromRecord: String {
    isNamed ? "\(swiftType)(rawValue: record.\(place))" : "record.\(place)"
  }
  fileprivate var toRecord: String { isNamed ? "\(name).rawValue" : name }

  fileprivate var nestedType: String? {
    guard isNamed else { return nil }
    let isSet = !bits.isEmpty
    return """

      /// Values of `\(name)`.
      public struct \(swiftType): \(isSet ? "OptionSet, Hashable" : "RawRepresentable, Hashable"), Sendable {
        public var rawValue: \(width)
        @inline(__always)
        public init(rawValue: \(width)) { self.rawValue = rawValue }
      \(lines(isSet ? bits : values, indent: 1) {
        """
        /// \($0.meaning)
        @inline(__always)
        public static var \($0.name): \(swiftType) { \(swiftType)(rawValue: \($0.value)) }
        """
      })
      }
      """
  }
}
