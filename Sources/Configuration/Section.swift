/// Everything that is wrong with a configuration, up to a limit, so that it can be mended in one go.
final class Problems {
  private(set) var lines: [String] = []
  private let name: String
  /// Keys that mean nothing to nvmepf, with their place.
  private var unknown: [String] = []
  private var lacksKey = false
  /// Keys that were given, understood, and have no effect here.
  private var withoutEffect: Set<String> = []
  private static let linesMax = 20

  init(name: String) { self.name = name }

  /// What should be told of a configuration that can be used, a line each.
  var notes: [String] {
    let keys = withoutEffect.sorted().joined(separator: ", ")
    return unknown + (keys.isEmpty ? [] : ["\(name): without effect here: \(keys)"])
  }

  /// Why a configuration cannot be used: what is missing may stand there under a name that is unknown.
  var all: [String] { lines + (lacksKey ? unknown : []) }

  func add(_ path: String, _ text: String) { add(path, text, to: &lines) }

  func addMissing(_ path: String) {
    lacksKey = true
    add(path, "is missing")
  }

  /// nvmetcli ignores what it does not know; here it is told.
  func addUnknown(_ path: String, _ hint: String) { add(path, "unknown key, ignored\(hint)", to: &unknown) }

  func addWithoutEffect(_ key: String) { withoutEffect.insert(key) }

  private func add(_ path: String, _ text: String, to lines: inout [String]) {
    guard lines.count < Problems.linesMax else { return }
    lines.append("\(name): \(path.isEmpty ? "" : "\(path): ")\(text)")
  }

  /// Nothing of it matters any more.
  func forget() { lines = [] }

  /// An empty list of the same name.
  func apart() -> Problems { Problems(name: name) }

  func add(contentsOf other: Problems) {
    lines += other.lines.prefix(max(0, Problems.linesMax - lines.count))
    withoutEffect.formUnion(other.withoutEffect)
    lacksKey = lacksKey || other.lacksKey
  }
}

/// One object of a configuration: its members are asked for by name, and what nobody asked for is unknown.
final class Section {
  let path: String
  /// What its values cannot be.
  let problems: Problems
  /// What no section can be, whether it is used or not: not an object, or with a key twice; and its unknown keys.
  private let mistakes: Problems
  private var members: [String: JSONValue] = [:]
  private var known: Set<String> = []

  /// - Parameters:
  ///   - value: anything; what is no object is a problem, and reads as an empty one.
  ///   - apart: where problems of values go that do not matter unless the section is used.
  init(_ value: JSONValue, path: String, _ problems: Problems, apart: Problems? = nil) {
    self.path = path
    self.problems = apart ?? problems
    mistakes = problems
    guard case .object(let all) = value else {
      mistakes.add(path, "an object is expected, this is \(value.kind)")
      return
    }
    for member in all {
      if members[member.key] != nil { mistakes.add(place(member.key), "stands twice") }
      members[member.key] = member.value
    }
  }

  func place(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  func complain(_ key: String, _ text: String) { problems.add(place(key), text) }

  func miss(_ key: String) { problems.addMissing(place(key)) }

  private func take(_ key: String) -> JSONValue? {
    known.insert(key)
    return members[key]
  }

  func has(_ key: String) -> Bool { members[key] != nil }

  // MARK: Values

  /// Numbers come as numbers or, as configfs has them, as strings.
  func string(_ key: String) -> String? {
    switch take(key) {
    case nil, .null: return nil
    case .string(let text), .number(let text): return text
    case .some(let other):
      complain(key, "a string is expected, this is \(other.kind)")
      return nil
    }
  }

  /// ASCII that can be shown, at most `limit` characters.
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
    complain(key, "a name is expected, this is empty")
    return nil
  }

  /// Decimal, or hexadecimal behind `0x`.
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
    guard let value = take(key), value != .null else { return nil }
    return Section(value, path: place(key), mistakes, apart: problems)
  }

  /// - Parameter apart: problems of each one's values stay in its own list.
  func sections(_ key: String, apart: Bool = false) -> [Section] {
    list(key).enumerated().map {
      Section($0.element, path: "\(place(key))[\($0.offset)]", mistakes, apart: apart ? problems.apart() : problems)
    }
  }

  func strings(_ key: String) -> [String] {
    list(key).enumerated().compactMap {
      if case .string(let text) = $0.element { return text }
      problems.add("\(place(key))[\($0.offset)]", "a string is expected, this is \($0.element.kind)")
      return nil
    }
  }

  private func list(_ key: String) -> [JSONValue] {
    switch take(key) {
    case nil, .null: return []
    case .array(let values): return values
    case .some(let other):
      complain(key, "a list is expected, this is \(other.kind)")
      return []
    }
  }

  // MARK: The rest

  /// Keys that every configuration has, and that have nothing to do with PCI.
  func skip(_ keys: [String]) { known.formUnion(keys) }

  /// Keys that are right, and of no consequence here. Whoever gave them something to hold is told, by the name alone.
  func ignore(_ keys: [String], prefix: String = "") {
    let nothing: [JSONValue] = [.null, .array([]), .object([]), .string("")]
    for key in keys { if let value = take(key), !nothing.contains(value) { problems.addWithoutEffect(prefix + key) } }
  }

  /// Tell of what nobody has asked for.
  func end() {
    for key in members.keys.sorted() where !known.contains(key) {
      let near = known.min { distance($0, key) < distance($1, key) }
      let hint = near.flatMap { distance($0, key) <= 2 ? "; did you mean \($0)?" : nil } ?? ""
      mistakes.addUnknown(place(key), hint)
    }
  }

  /// Characters to insert, delete or change.
  private func distance(_ a: String, _ b: String) -> Int {
    let (a, b) = (Array(a.prefix(64)), Array(b.prefix(64)))
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, y) in b.enumerated() {
        let above = row[j + 1]
        row[j + 1] = min(above + 1, row[j] + 1, diagonal + (x == y ? 0 : 1))
        diagonal = above
      }
    }
    return row[b.count]
  }
}
