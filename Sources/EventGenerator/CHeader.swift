import EventTable
import Text

/// The header of `bpf/`: kinds, flags, and for each kind a `struct` of its fields with the function that stores them in
/// a record.
func cHeader() -> String {
  """
  /* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
  /* Made from the event table by event-generator. */

  enum kind {
  \(eventTable.map { "\t\($0.constant) = \($0.kind)," }.joined(separator: "\n"))
  };

  /* What an event says, where a record has it. */
  struct fields {
  \tu64 a;
  \tu64 b;
  \tu16 qid;
  \tu16 cid;
  \tu8 kind;
  \tu8 flags;
  };

  static __always_inline u64 pair(u32 low, u32 high)
  {
  \treturn (u64)high << 32 | low;
  }

  \(eventTable.map(\.cType).joined(separator: "\n"))
  """
}

extension EventDescription {
  private var identifier: String { name.split(separator: "-").joined(separator: "_") }
  fileprivate var constant: String { identifier.uppercased() }

  fileprivate var cType: String {
    let tail = fixedTailBytes > 0 ? "#define \(constant)_TAIL_BYTES \(fixedTailBytes)\n" : ""
    let names = recordFields.flatMap { $0.bits + $0.values }.map {
      "#define \(constant)_\(upperCase($0.name)) \($0.value.hex(digits: 2))\n"
    }
    return """
      \(tail)\(names.joined())struct \(identifier)_fields {
      \(recordFields.map { "\tu\($0.place.location.width * 8) \($0.name);" }.joined(separator: "\n"))
      };

      static __always_inline struct fields \(identifier)(struct \(identifier)_fields f)
      {
      \treturn (struct fields){
      \t\t.kind = \(constant),
      \(words(pair: "pair") { "f.\($0.name)" }.map { "\t\t.\($0.name) = \($0.value)," }.joined(separator: "\n"))
      \t};
      }

      """
  }

  /// The fields in the record; its tail is not copied.
  var recordFields: [EventField] { fields.filter { if case .tail = $0.place { false } else { true } } }

  func field(at place: FieldPlace) -> EventField? { fields.first { $0.place == place } }

  /// The words of a record that its kind uses, in order, with the expressions of their values.
  /// - Parameters:
  ///   - pair: the function that joins two halves.
  ///   - value: the expression of a field's value.
  func words(pair: String, _ value: (EventField) -> String) -> [(name: String, value: String)] {
    func own(_ place: FieldPlace) -> String? { field(at: place).map(value) }
    func word(_ whole: FieldPlace, _ low: FieldPlace, _ high: FieldPlace) -> String? {
      if let whole = own(whole) { return whole }
      guard own(low) != nil || own(high) != nil else { return nil }
      return "\(pair)(\(own(low) ?? "0"), \(own(high) ?? "0"))"
    }
    let all = [
      ("flags", own(.flags)), ("qid", own(.qid)), ("cid", own(.cid)), ("a", word(.a, .aLow, .aHigh)),
      ("b", word(.b, .bLow, .bHigh)),
    ]
    return all.compactMap { name, value in value.map { (name, $0) } }
  }
}

/// `fromHost` as `FROM_HOST`.
private func upperCase(_ name: String) -> String {
  name.map { $0.isUppercase ? "_\($0)" : $0.uppercased() }.joined()
}
