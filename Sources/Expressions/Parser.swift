import Text

/// Parses tokens by this grammar, and checks names and kinds:
///
///     any        = all { ("||" | "or") all }
///     all        = negation { ("&&" | "and") negation }
///     negation   = { "!" | "not" } ( "(" any ")" | comparison )
///     comparison = value ( COMPARISON value | "in" set | "changes" | )
///     value      = NUMBER | NAME [ WORD ] [ "&" NUMBER ]
///     set        = range | "(" range { "," range } ")"
///     range      = value [ ".." NUMBER | "+" NUMBER ]
struct Parser<Place: Hashable & Sendable> {
  private let text: String
  private let tokens: [Token]
  let vocabulary: Vocabulary<Place>
  private var position = 0
  private var depth = 0
  /// Found so far, each once.
  private(set) var variables: [Variable<Place>] = []
  private(set) var watched: [Term<Place>] = []

  init(_ text: String, _ tokens: [Token], _ vocabulary: Vocabulary<Place>) {
    (self.text, self.tokens, self.vocabulary) = (text, tokens, vocabulary)
  }

  // MARK: Tokens

  /// The last token is the end, which nothing moves past.
  private var token: Token { tokens[position] }
  private mutating func advance() { position = min(position + 1, tokens.count - 1) }

  private mutating func skip(_ value: Token.Value) -> Bool {
    guard token.value == value else { return false }
    advance()
    return true
  }

  /// The text of a token as errors show it.
  func quoted(_ token: Token) -> String {
    let text = String(decoding: Array(text.utf8)[token.range], as: UTF8.self)
    return token.value == .end ? "the end" : "'\(text.printable(limit: 60))'"
  }

  func error(_ message: String, at token: Token) -> ExpressionError {
    ExpressionError(message, at: token.range.lowerBound, of: text)
  }

  // MARK: Conditions

  mutating func parse() throws(ExpressionError) -> Condition<Place> {
    guard token.value != .end else { throw error("the expression is empty", at: token) }
    let condition = try any()
    switch token.value {
    case .end: return condition
    case .close: throw error("this parenthesis closes none", at: token)
    case .comparison:
      throw error("a comparison has two sides; write a range as in 1..5, and && between conditions", at: token)
    default: throw error("&& or || must stand before \(quoted(token))", at: token)
    }
  }

  private mutating func any() throws(ExpressionError) -> Condition<Place> {
    var parts = [try all()]
    while skip(.or) { parts.append(try all()) }
    return parts.count == 1 ? parts[0] : .any(parts)
  }

  private mutating func all() throws(ExpressionError) -> Condition<Place> {
    var parts = [try negation()]
    while skip(.and) { parts.append(try negation()) }
    return parts.count == 1 ? parts[0] : .all(parts)
  }

  private mutating func negation() throws(ExpressionError) -> Condition<Place> {
    var isNegated = false
    while skip(.not) { isNegated.toggle() }
    let condition = token.value == .open ? try parenthesised() : try comparison()
    return isNegated ? .not(condition) : condition
  }

  private mutating func parenthesised() throws(ExpressionError) -> Condition<Place> {
    let open = token
    advance()
    guard depth < 64 else { throw error("parentheses are nested more than 64 times", at: open) }
    depth += 1
    defer { depth -= 1 }
    let condition = try any()
    guard skip(.close) else {
      throw token.value == .end
        ? error("this parenthesis is never closed", at: open)
        : error("&&, || or ) must stand before \(quoted(token))", at: token)
    }
    return condition
  }

  private mutating func comparison() throws(ExpressionError) -> Condition<Place> {
    let first = token
    if case .number(let number, let unit) = token.value {
      advance()
      guard case .comparison(let comparison) = token.value else {
        throw error("\(quoted(first)) is no condition: compare it with a variable", at: first)
      }
      advance()
      guard case .name = token.value else {
        throw error("a number must be compared with a variable, not with \(quoted(token))", at: token)
      }
      let other = try operand()
      return try compare(other, comparison.mirrored, number, unit, at: first)
    }
    let operand = try operand()
    switch token.value {
    case .comparison(let comparison):
      advance()
      return try compare(operand, comparison)
    case .isIn:
      advance()
      return try membership(of: operand)
    case .changes:
      advance()
      watched.append(operand.term)
      return .term(operand.term, .changes(watched.count - 1))
    default:
      guard case .flag = operand.variable.kind else {
        let name = operand.variable.name
        throw error(
          "\(name) is \(operand.variable.kind.name): compare it, as in \(operand.variable.kind.example(name))",
          at: first)
      }
      return .term(operand.term, .isSet)
    }
  }

  // MARK: Operands

  private struct Operand {
    let variable: Variable<Place>
    let mask: UInt64
    let token: Token
    var term: Term<Place> { Term(place: variable.place, mask: mask) }
    /// `slba` and `blocks & 3`, as errors say it.
    var name: String { variable.name }
  }

  private mutating func operand() throws(ExpressionError) -> Operand {
    let first = token
    guard case .name(let name, let index) = token.value else {
      throw error("a condition must stand before \(quoted(token)), as in qid == 1 or failed", at: token)
    }
    advance()
    let variable = try variable(name, index, at: first)
    guard skip(.mask) else { return Operand(variable: variable, mask: .max, token: first) }
    switch variable.kind {
    case .number, .bytes, .choice: break
    default: throw error("\(variable.name) is \(variable.kind.name), which has no bits", at: first)
    }
    guard case .number(let mask, .none) = token.value else {
      throw error("a number must follow &, as in flags & 0x2 != 0; two conditions are joined by &&", at: token)
    }
    advance()
    return Operand(variable: variable, mask: mask, token: first)
  }

  private mutating func variable(_ name: String, _ index: UInt64?, at first: Token) throws(ExpressionError)
    -> Variable<Place>
  {
    if let index {
      guard let found = vocabulary.definition(name, .indexed), case .indexed(let range, let place) = found.form else {
        throw unknown(name, at: first)
      }
      guard range.contains(index) else {
        throw error(
          "the index of \(found.usage) is a number from \(range.lowerBound) to \(range.upperBound)", at: first)
      }
      let written = name.replacing("[]", with: "[\(index)]")
      return use(Variable(name: written, kind: found.kind, place: place(index), last: nil))
    }
    if case .name(let word, nil) = token.value, let found = vocabulary.definition(name, .words),
      case .words(let words) = found.form
    {
      guard let choice = words.first(where: { $0.word == word }) else {
        throw error(
          "\(name) has no \(quoted(token))\(hint(word, words.map(\.word))); there are \(list(words.map(\.word)))",
          at: token)
      }
      advance()
      return use(Variable(name: "\(name) \(word)", kind: found.kind, place: choice.place, last: nil))
    }
    guard let found = vocabulary.definition(name, .plain), case .plain(let place) = found.form else {
      throw unknown(name, at: first)
    }
    return use(Variable(name: name, kind: found.kind, place: place, last: found.last))
  }

  private mutating func use(_ variable: Variable<Place>) -> Variable<Place> {
    if !variables.contains(where: { $0.place == variable.place }) { variables.append(variable) }
    return variable
  }

  private func unknown(_ name: String, at token: Token) -> ExpressionError {
    let others = vocabulary.definitions.filter { $0.name == name || $0.name.hasPrefix("\(name)[]") }
    if let other = others.first {
      let word = other.words.first.map { "\(name) \($0)" }
      return error("\(quoted(token)) is incomplete; write \(word ?? other.usage)", at: token)
    }
    let names = vocabulary.definitions.map(\.usage)
    let near = hint(name.replacing("[]", with: "[N]"), names)
    return error("there is no \(quoted(token))\(near); the names are \(list(names, limit: 200))", at: token)
  }

  private func hint(_ name: String, _ names: [String]) -> String {
    name.nearest(among: names).map { " (did you mean \($0)?)" } ?? ""
  }

  private func list(_ names: [String], limit: Int = 50) -> String {
    names.count <= limit ? names.joined(separator: ", ") : names.prefix(limit).joined(separator: ", ") + " and others"
  }

  // MARK: Comparisons

  private mutating func compare(_ operand: Operand, _ comparison: Relation) throws(ExpressionError)
    -> Condition<Place>
  {
    let right = token
    if case .number(let number, let unit) = right.value {
      advance()
      return try compare(operand, comparison, number, unit, at: right)
    }
    guard case .name(let name, let index) = right.value else {
      throw error(
        "a value must stand before \(quoted(right)), as in \(operand.variable.kind.example(operand.name))", at: right)
    }
    let isKnown = vocabulary.definitions.contains { $0.name == name }
    switch operand.variable.kind {
    case .choice(let choices) where index == nil:
      let values = choices.values(of: name)
      if !values.isEmpty {
        advance()
        return try compare(operand, comparison, name, values)
      }
      guard !isKnown else { break }
      throw error(
        "\(operand.name) is never \(quoted(right))\(hint(name, choices.names)); its values are numbers or "
          + list(choices.names), at: right)
    case .flag: throw flagCompared(operand)
    case let kind where !isKnown:
      let near = hint(name, vocabulary.definitions.map(\.name))
      throw error(
        "\(operand.name) is \(kind.name), and there is no \(quoted(right))\(near); compare it as in "
          + kind.example(operand.name), at: right)
    default: break
    }
    let other = try self.operand()
    guard operand.variable.kind.isComparable(with: other.variable.kind) else { throw mismatch(operand, other) }
    return .term(operand.term, .comparesWith(comparison, other.term))
  }

  private func mismatch(_ operand: Operand, _ other: Operand) -> ExpressionError {
    if case .flag = operand.variable.kind { return flagCompared(operand) }
    if case .flag = other.variable.kind { return flagCompared(other) }
    let (one, two) = (operand.variable, other.variable)
    return error(
      "\(one.name) is \(one.kind.name) and \(two.name) \(two.kind.name): they cannot be compared", at: other.token)
  }

  private func flagCompared(_ operand: Operand) -> ExpressionError {
    error("\(operand.name) is a flag: write \(operand.name) or !\(operand.name)", at: operand.token)
  }

  /// With a name's values.
  private func compare(_ operand: Operand, _ comparison: Relation, _ name: String, _ values: [UInt64])
    throws(ExpressionError) -> Condition<Place>
  {
    let parts = values.map { Condition.term(operand.term, .compares(comparison, $0)) }
    switch comparison {
    case .equal: return parts.count == 1 ? parts[0] : .any(parts)
    case .notEqual: return parts.count == 1 ? parts[0] : .all(parts)
    default:
      throw error(
        "\(name) has no order: write \(operand.name) == \(name) or \(operand.name) != \(name)", at: operand.token)
    }
  }

  private func compare(
    _ operand: Operand, _ comparison: Relation, _ number: UInt64, _ unit: Token.Unit, at token: Token
  ) throws(ExpressionError) -> Condition<Place> {
    .term(try term(operand, for: number, unit, at: token), .compares(comparison, number))
  }

  /// The operand's term when it is compared with this number.
  private func term(_ operand: Operand, for number: UInt64, _ unit: Token.Unit, at token: Token) throws(ExpressionError)
    -> Term<Place>
  {
    switch (operand.variable.kind, unit) {
    case (.flag, _): throw flagCompared(operand)
    case (.choice(let choices), .none):
      guard number <= choices.numberMask else {
        throw error("\(operand.name) is at most \(choices.numberMask.hex)", at: token)
      }
      return Term(place: operand.variable.place, mask: operand.mask & choices.numberMask)
    case (_, .none), (.time, .time), (.bytes, .bytes): return operand.term
    default:
      throw error("\(operand.name) is \(operand.variable.kind.name), and \(quoted(token)) is \(unit.name)", at: token)
    }
  }

  // MARK: Sets

  private mutating func membership(of operand: Operand) throws(ExpressionError) -> Condition<Place> {
    if case .flag = operand.variable.kind { throw flagCompared(operand) }
    guard skip(.open) else { return try range(of: operand) }
    var parts = [try range(of: operand)]
    while skip(.comma) { parts.append(try range(of: operand)) }
    guard skip(.close) else { throw error("a comma or ) must stand before \(quoted(token))", at: token) }
    return .any(parts)
  }

  private mutating func range(of operand: Operand) throws(ExpressionError) -> Condition<Place> {
    let first = token
    guard case .number(let low, let unit) = first.value else {
      guard case .name = first.value else {
        throw error(
          "a value or a range must stand before \(quoted(first)), as in \(operand.name) in 100..200", at: first)
      }
      return try compare(operand, .equal)
    }
    let term = try term(operand, for: low, unit, at: first)
    advance()
    let sign = token.value
    guard sign == .range || sign == .plus else { return within(operand, term, low, low) }
    advance()
    let second = token
    guard case .number(let number, let unit) = second.value else {
      throw error("a number must end the range, not \(quoted(second))", at: second)
    }
    _ = try self.term(operand, for: number, unit, at: second)
    advance()
    if sign == .range {
      guard low <= number else { throw error("the range is empty: its end is before its beginning", at: first) }
      return within(operand, term, low, number)
    }
    guard number > 0 else { throw error("the range is empty: + must be followed by at least 1", at: second) }
    let (high, isTooHigh) = low.addingReportingOverflow(number - 1)
    guard !isTooHigh else { throw error("the range ends beyond 64 bits", at: second) }
    return within(operand, term, low, high)
  }

  private mutating func within(_ operand: Operand, _ term: Term<Place>, _ low: UInt64, _ high: UInt64)
    -> Condition<Place>
  {
    guard let last = operand.variable.last, operand.mask == .max else {
      return .term(term, .isWithin(low, high - low))
    }
    _ = use(Variable(name: operand.name, kind: operand.variable.kind, place: last, last: nil))
    return .all([
      .term(term, .compares(.atMost, high)), .term(Term(place: last, mask: .max), .compares(.atLeast, low)),
    ])
  }
}
