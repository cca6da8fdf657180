/// A value in an expression: some bits of a variable.
struct Term<Place: Hashable & Sendable>: Sendable {
  let place: Place
  let mask: UInt64
}

/// What is said of a value.
enum Predicate<Place: Hashable & Sendable>: Sendable {
  case isSet
  case compares(Relation, UInt64)
  case comparesWith(Relation, Term<Place>)
  /// At least the first number, and at most so much above it.
  case isWithin(UInt64, UInt64)
  /// The number of the watched value.
  case changes(Int)
}

/// An expression as a tree.
indirect enum Condition<Place: Hashable & Sendable>: Sendable {
  case term(Term<Place>, Predicate<Place>)
  case all([Condition])
  case any([Condition])
  case not(Condition)
}

/// A test of a compiled expression, and the tests that follow it: their numbers, or how the evaluation ends.
struct Test<Place: Hashable & Sendable>: Sendable {
  static var accept: Int { -1 }
  static var reject: Int { -2 }

  let term: Term<Place>
  let predicate: Predicate<Place>
  let then: Int
  let otherwise: Int

  /// False for an absent value.
  @inline(__always)
  func holds(_ value: (Place) -> UInt64?, _ hasChanged: (Int) -> Bool) -> Bool {
    if case .changes(let index) = predicate { return hasChanged(index) }
    guard let found = value(term.place) else { return false }
    let one = found & term.mask
    switch predicate {
    case .isSet: return one != 0
    case .compares(let comparison, let other): return comparison.holds(one, other)
    case .comparesWith(let comparison, let term):
      guard let other = value(term.place) else { return false }
      return comparison.holds(one, other & term.mask)
    // Wraps for a value below the first.
    case .isWithin(let first, let span): return one &- first <= span
    case .changes: return false
    }
  }
}

/// The tests of an expression. The last is evaluated first, and each leads to an earlier one.
struct TestProgram<Place: Hashable & Sendable> {
  private(set) var tests: [Test<Place>] = []

  /// Append a condition.
  /// - Parameters:
  ///   - then: the test that follows if it holds, or the end.
  ///   - otherwise: the test that follows if it does not hold, or the end.
  /// - Returns: the number of its first test.
  mutating func append(_ condition: Condition<Place>, then: Int, otherwise: Int) -> Int {
    switch condition {
    case .term(let term, let predicate):
      tests.append(Test(term: term, predicate: predicate, then: then, otherwise: otherwise))
      return tests.count - 1
    case .all(let parts): return parts.reversed().reduce(then) { append($1, then: $0, otherwise: otherwise) }
    case .any(let parts): return parts.reversed().reduce(otherwise) { append($1, then: then, otherwise: $0) }
    case .not(let part): return append(part, then: otherwise, otherwise: then)
    }
  }
}
