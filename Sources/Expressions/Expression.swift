/// A condition on named values, such as `qid == 3 && stage.execute > 50us`: the one language of filters, breakpoints and
/// watchpoints.
///
/// An expression is checked against a vocabulary when it is made, and afterwards evaluated without strings and without
/// allocation. A value may be absent, for example the status of an event that has none: every condition on it is then
/// false, `!=` too, and its negation with `!` is true.
public struct Expression<Place: Hashable & Sendable>: Sendable {
  /// As given.
  public let text: String
  /// What it asks for, each once.
  public let variables: [Variable<Place>]
  private let tests: [Test<Place>]
  /// The values that `changes` compares with earlier ones.
  private let watched: [Term<Place>]

  /// Parse and check a text.
  public init(_ text: String, _ vocabulary: Vocabulary<Place>) throws(ExpressionError) {
    var parser = Parser(text, try Lexer.tokens(of: text), vocabulary)
    let condition = try parser.parse()
    var program = TestProgram<Place>()
    _ = program.append(condition, then: Test<Place>.accept, otherwise: Test<Place>.reject)
    self.text = text
    (variables, watched, tests) = (parser.variables, parser.watched, program.tests)
  }

  /// One comparison, for options that are conditions: `status`, `==` and the value that the user gave.
  /// - Parameter value: one value or a range; anything else is an error, so that an option cannot become another
  ///   condition.
  public init(
    _ name: String, _ comparison: String, value: String, _ vocabulary: Vocabulary<Place>
  ) throws(ExpressionError) {
    for token in try Lexer.tokens(of: value) where !token.isOfValue {
      throw ExpressionError("it must be one value", at: token.range.lowerBound, of: value)
    }
    try self.init("\(name) \(comparison) \(value)", vocabulary)
  }

  /// It contains `changes`, and needs `WatchedValues` to be evaluated with.
  public var hasChanges: Bool { !watched.isEmpty }

  /// Whether it holds for these values. Without `WatchedValues`, nothing changes.
  /// - Parameter value: of a variable; nil if it has none at present.
  public func holds(_ value: (Place) -> UInt64?) -> Bool { evaluate(value) { _ in false } }

  /// Whether it holds for these values and those of the evaluations before.
  /// - Parameters:
  ///   - watch: made from this expression.
  ///   - value: of a variable; nil if it has none at present.
  public func holds(_ watch: inout WatchedValues, _ value: (Place) -> UInt64?) -> Bool {
    for index in watched.indices {
      let term = watched[index]
      watch.observe(index, value(term.place).map { $0 & term.mask })
    }
    return evaluate(value) { watch.hasChanged($0) }
  }

  @inline(__always)
  private func evaluate(_ value: (Place) -> UInt64?, _ hasChanged: (Int) -> Bool) -> Bool {
    tests.withUnsafeBufferPointer { tests in
      var next = tests.count - 1
      // Each test leads to an earlier one, or to the end.
      while next >= 0 { next = tests[next].holds(value, hasChanged) ? tests[next].then : tests[next].otherwise }
      return next == Test<Place>.accept
    }
  }

  fileprivate var watchedCount: Int { watched.count }
}

/// The values that `changes` compares with: those of the evaluation before.
///
/// A value is compared with the last one that was present. The first one is no change.
public struct WatchedValues: Sendable {
  private var values: [(value: UInt64?, hasChanged: Bool)]

  /// Nothing has been evaluated yet.
  public init(_ expression: Expression<some Hashable & Sendable>) {
    values = Array(repeating: (nil, false), count: expression.watchedCount)
  }

  fileprivate mutating func observe(_ index: Int, _ value: UInt64?) {
    values[index].hasChanged = value != nil && values[index].value != nil && value != values[index].value
    if let value { values[index].value = value }
  }

  fileprivate func hasChanged(_ index: Int) -> Bool { values[index].hasChanged }
}
