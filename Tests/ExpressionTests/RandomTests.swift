import Chance
import Expressions
import Testing

/// A random expression: its text, and what it means, without the module under test.
private indirect enum Tree {
  case comparison(text: String, (([Place: UInt64]) -> Bool))
  case not(Tree)
  case all([Tree])
  case any([Tree])

  func holds(_ values: [Place: UInt64]) -> Bool {
    switch self {
    case .comparison(_, let holds): holds(values)
    case .not(let tree): !tree.holds(values)
    case .all(let trees): trees.allSatisfy { $0.holds(values) }
    case .any(let trees): trees.contains { $0.holds(values) }
    }
  }

  /// With parentheses where the grammar needs them and sometimes elsewhere, and all spellings of the operators.
  func text(_ random: inout SeededGenerator) -> String {
    switch self {
    case .comparison(let text, _): return random.oneIn(4) ? "(\(text))" : text
    case .not(let tree):
      let text = tree.text(&random)
      let isSimple = if case .comparison = tree { true } else { false }
      return (random.oneIn(2) ? "!" : "not ") + (isSimple ? text : "(\(text))")
    case .all(let trees):
      let parts = trees.map { tree in
        let text = tree.text(&random)
        return if case .any = tree { "(\(text))" } else { text }
      }
      return parts.joined(separator: random.oneIn(2) ? "&&" : " and ")
    case .any(let trees): return trees.map { $0.text(&random) }.joined(separator: random.oneIn(2) ? " || " : " or ")
    }
  }

  init(_ random: inout SeededGenerator, depth: Int) {
    switch depth == 0 ? 0 : random.next() % 4 {
    case 1: self = .not(Tree(&random, depth: depth - 1))
    case 2: self = .all((0...random.next() % 3).map { _ in Tree(&random, depth: depth - 1) })
    case 3: self = .any((0...random.next() % 3).map { _ in Tree(&random, depth: depth - 1) })
    default: self = Tree.comparison(&random)
    }
  }

  private static let numbers: [(name: String, place: Place, unit: String)] = [
    ("qid", .qid, ""), ("cid", .cid, ""), ("total", .total, "ns"), ("bytes", .bytes, "B"),
    ("sq[3].head", .head(3), ""), ("register CC", .register("CC"), ""),
  ]

  private static func comparison(_ random: inout SeededGenerator) -> Tree {
    if random.oneIn(5) { return .comparison(text: "failed") { $0[.failed] ?? 0 != 0 } }
    let (name, place, unit) = numbers.randomElement(using: &random)!
    let number = random.next() % 4
    func tree(_ sign: String, _ compare: @escaping (UInt64, UInt64) -> Bool) -> Tree {
      .comparison(text: "\(name) \(sign) \(number)\(unit)") { values in
        values[place].map { compare($0, number) } ?? false
      }
    }
    switch random.next() % 8 {
    case 0: return tree("==", ==)
    case 1: return tree("!=", !=)
    case 2: return tree("<", <)
    case 3: return tree("<=", <=)
    case 4: return tree(">", >)
    case 5: return tree(">=", >=)
    case 6: return .comparison(text: "\(number)<\(name)") { values in values[place].map { number < $0 } ?? false }
    default:
      let last = number + random.next() % 3
      return .comparison(text: "\(name) in \(number)..0x\(last)") { values in
        values[place].map { (number...last).contains($0) } ?? false
      }
    }
  }
}

@Suite("Random expressions")
struct RandomTests {
  @Test("an expression means what its tree means")
  func trees() throws {
    var random = SeededGenerator(seed: 12)
    let places: [Place] = [.qid, .cid, .total, .bytes, .failed, .head(3), .register("CC")]
    var held = 0
    for _ in 0..<2000 {
      let tree = Tree(&random, depth: 4)
      let text = tree.text(&random)
      let expression = try Expression(text, vocabulary)
      for _ in 0..<8 {
        var values: [Place: UInt64] = [:]
        for place in places where !random.oneIn(4) { values[place] = random.next() % 4 }
        let isTrue = tree.holds(values)
        #expect(expression.holds { values[$0] } == isTrue, "\(text) with \(values)")
        held += isTrue ? 1 : 0
      }
    }
    // Neither nearly all nor nearly none.
    #expect((2000..<14_000).contains(held))
  }

  @Test("a text of random words is an expression or an error with a place in it")
  func hostile() {
    let words = [
      "qid", "failed", "total", "cq[1].full", "cq[", "]", "register", "CC", "opcode", "read", "==", "!=", "<", ">=",
      "in",
      "changes", "and", "or", "not", "!", "&&", "||", "&", "(", ")", ",", "..", "+", "-", "1", "0x", "5us", "1.5", ".",
      "18446744073709551615", "é", "\u{301}", "\u{0}", "\n", "\"", "[0x1]", "µs",
    ]
    var random = SeededGenerator(seed: 34)
    var valid = 0
    for _ in 0..<20_000 {
      let count = random.next() % 12
      let text = (0..<count).map { _ in words.randomElement(using: &random)! }
        .joined(separator: random.oneIn(4) ? "" : " ")
      do {
        let expression = try Expression(text, vocabulary)
        var watch = WatchedValues(expression)
        _ = expression.holds(&watch) { _ in 1 }
        valid += 1
      } catch {
        #expect((1...text.utf8.count + 1).contains(error.column), "\(text): \(error)")
        #expect(error.marked.split(separator: "\n", omittingEmptySubsequences: false).count == 2)
      }
    }
    #expect(valid > 50)
  }
}
