import Analysis
import Expressions
import Report

/// A text of any bytes is an expression, which then can be evaluated with any values, or a mistake with a place in it.
@_cdecl("fuzz_expression")
public func fuzzExpression(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  guard count > 0 else { return 0 }
  let text = String(decoding: UnsafeBufferPointer(start: data + 1, count: count - 1), as: UTF8.self)
  if data[0] & 1 == 0 { evaluate(text, .commands) } else { evaluate(text, .events) }
  return 0
}

private func evaluate<Place>(_ text: String, _ vocabulary: Vocabulary<Place>) {
  do {
    let expression = try Expression(text, vocabulary)
    precondition(!expression.variables.isEmpty, "an expression of nothing")
    var earlier = WatchedValues(expression)
    for value in [nil, 0, 1, 0x80, .max] as [UInt64?] { _ = expression.holds(&earlier) { _ in value } }
    let negated = try? Expression("!(\(text))", vocabulary)
    guard let negated, !expression.hasChanges else { return }
    for value in [nil, 0, 2] as [UInt64?] {
      precondition(
        expression.holds { _ in value } != negated.holds { _ in value }, "an expression and its negation agree")
    }
  } catch {
    precondition((1...text.utf8.count + 1).contains(error.column), "a mistake beyond the text")
    precondition(!error.description.contains("\n"), "a mistake of several lines")
    _ = error.marked
  }
}
