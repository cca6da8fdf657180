import Text

/// All problems of a configuration, up to a limit, so that the user can fix them at once.
final class Problems {
  private(set) var lines: [String] = []
  let name: String
  /// Unknown keys, with their places.
  private var unknown: [String] = []
  private var lacksKey = false
  /// Valid keys that have no effect here.
  private var withoutEffect: Set<String> = []
  private static let linesMax = 20

  init(name: String) { self.name = name }

  /// Warnings about a usable configuration, one line each.
  var notes: [String] {
    let keys = withoutEffect.sorted().joined(separator: ", ")
    return unknown + (keys.isEmpty ? [] : ["\(name): no effect here: \(keys)"])
  }

  /// Why a configuration is unusable; includes unknown keys, since a missing key may be misspelt.
  var all: [String] { lines + (lacksKey ? unknown : []) }

  func add(_ path: String, _ text: String) { add(path, text, to: &lines) }

  func addMissing(_ path: String) {
    lacksKey = true
    add(path, "is missing")
  }

  /// nvmetcli ignores unknown keys silently; nvmepf reports them.
  func addUnknown(_ path: String, _ hint: String) { add(path, "unknown key, ignored\(hint)", to: &unknown) }

  func addWithoutEffect(_ key: String) { withoutEffect.insert(key) }

  private func add(_ path: String, _ text: String, to lines: inout [String]) {
    guard lines.count < Problems.linesMax else { return }
    lines.append("\(name): \(path.isEmpty ? "" : "\(path): ")\(text)")
  }

  /// Discard all problems.
  func forget() { lines = [] }

  /// An empty list with the same name.
  func apart() -> Problems { Problems(name: name) }

  func add(contentsOf other: Problems) {
    lines += other.lines.prefix(max(0, Problems.linesMax - lines.count))
    withoutEffect.formUnion(other.withoutEffect)
    lacksKey = lacksKey || other.lacksKey
  }
}

/// One object of a configuration: members are requested by name, and those never requested are unknown.
final class Section {
  let path: String
  /// Problems of its values.
  let problems: Problems
  /// Problems that count even if the section is not used: not an object, or a duplicate key; and its unknown keys.
  private let mistakes: Problems
  private var members: [String: JSONValue] = [:]
  private var known: Set<String> = []

  /// - Parameters:
  ///   - value: anything; a value that is not an object is a problem, and reads as an empty object.
  ///   - apart: separate list for problems of values that count only if the section is used.
  init(_ value: JSONValue, path: String, _ problems: Problems, apart: Problems? = nil) {
    self.path = path
    self.problems = apart ?? problems
    mistakes = problems
    guard case .object(let all) = value else {
      mistakes.add(path, "expected an object, found \(value.kind)")
      return
    }
    for member in all {
      if members[member.key] != nil { mistakes.add(place(member.key), "stands twice") }
      members[member.key] = member.value
    }
  }

  /// The whole of a JSON text.
  convenience init(reading bytes: [UInt8], _ problems: Problems) throws(ConfigurationError) {
    do throws(JSONError) { self.init(try JSONReader.read(bytes), path: "", problems) } catch {
      throw ConfigurationError(problems: ["\(problems.name):\(error.line):\(error.column): \(error.what)"])
    }
  }

  func place(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  func complain(_ key: String, _ text: String) { problems.add(place(key), text) }

  func miss(_ key: String) { problems.addMissing(place(key)) }

  private func member(_ key: String) -> JSONValue? {
    known.insert(key)
    return members[key]
  }

  func has(_ key: String) -> Bool { members[key] != nil }

  // MARK: Values

  /// Numbers are JSON numbers or, as in configfs, strings.
  func string(_ key: String) -> String? {
    switch member(key) {
    case nil, .null: return nil
    case .string(let text), .number(let text): return text
    case .some(let other):
      complain(key, "expected a string, found \(other.kind)")
      return nil
    }
  }

  /// Printable ASCII, at most `limit` characters.
  func text(_ key: String, limit: Int) -> String? {
    guard let text = string(key) else { return nil }
    guard text.utf8.count <= limit, text.utf8.allSatisfy({ (0x20...0x7e).contains($0) }) else {
      complain(key, "at most \(limit) characters of ASCII are possible")
      return nil
    }
    return text
  }

  /// An NVMe Qualified Name (Base 2.1, 4.7).
  func nqn(_ key: String) -> String? {
    let name = text(key, limit: 223)
    guard name?.isEmpty == true else { return name }
    complain(key, "expected a name, found an empty string")
    return nil
  }

  /// Decimal, or hexadecimal with `0x`.
  func integer<Value: FixedWidthInteger & Sendable>(_ key: String, _ range: ClosedRange<Value>) -> Value? {
    guard let text = string(key) else { return nil }
    let isHexadecimal = text.lowercased().hasPrefix("0x")
    guard let value = Value(isHexadecimal ? String(text.dropFirst(2)) : text, radix: isHexadecimal ? 16 : 10),
      range.contains(value)
    else {
      complain(key, "\(text) is not possible: \(range.lowerBound) to \(range.upperBound)")
      return nil
    }
    return value
  }

  /// true and false, or 1 and 0.
  func flag(_ key: String) -> Bool? {
    if case .bool(let value) = members[key] {
      known.insert(key)
      return value
    }
    return integer(key, 0...1 as ClosedRange<UInt8>).map { $0 == 1 }
  }

  /// One of several words.
  func choice<Value>(_ key: String, _ choices: [(String, Value)]) -> Value? {
    guard let text = string(key) else { return nil }
    if let found = choices.first(where: { $0.0 == text }) { return found.1 }
    complain(key, "\(text) is not possible: \(choices.map(\.0).joined(separator: ", "))")
    return nil
  }

  // MARK: Parts

  func section(_ key: String) -> Section? {
    guard let value = member(key), value != .null else { return nil }
    return Section(value, path: place(key), mistakes, apart: problems)
  }

  /// - Parameter apart: problems of each element's values stay in their own list.
  func sections(_ key: String, apart: Bool = false) -> [Section] {
    list(key).enumerated().map {
      Section($0.element, path: "\(place(key))[\($0.offset)]", mistakes, apart: apart ? problems.apart() : problems)
    }
  }

  func strings(_ key: String) -> [String] {
    list(key).enumerated().compactMap {
      if case .string(let text) = $0.element { return text }
      problems.add("\(place(key))[\($0.offset)]", "expected a string, found \($0.element.kind)")
      return nil
    }
  }

  private func list(_ key: String) -> [JSONValue] {
    switch member(key) {
    case nil, .null: return []
    case .array(let values): return values
    case .some(let other):
      complain(key, "expected a list, found \(other.kind)")
      return []
    }
  }

  // MARK: The rest

  /// Keys of every configuration that do not concern PCI.
  func skip(_ keys: [String]) { known.formUnion(keys) }

  /// Valid keys without effect here. Those with a value are reported, by name only.
  func ignore(_ keys: [String], prefix: String = "") {
    let nothing: [JSONValue] = [.null, .array([]), .object([]), .string("")]
    for key in keys { if let value = member(key), !nothing.contains(value) { problems.addWithoutEffect(prefix + key) } }
  }

  /// Report the members that were never requested.
  func end() {
    for key in members.keys.sorted() where !known.contains(key) {
      let hint = key.nearest(among: known.sorted()).map { "; did you mean \($0)?" } ?? ""
      mistakes.addUnknown(place(key), hint)
    }
  }
}
