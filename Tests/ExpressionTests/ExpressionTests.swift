import Expressions
import Testing

/// What the tests' expressions are about.
enum Place: Hashable {
  case qid, cid, first, last, total, execute, bytes, failed, status, opcode, event
  case full(UInt64)
  case head(UInt64)
  case register(String)
}

let vocabulary = Vocabulary<Place>([
  .init("qid", .number, "Queue identifier.", .qid),
  .init("cid", .number, "Command identifier.", .cid),
  .init("slba", .number, "First block.", .first, last: .last),
  .init("total", .time, "Latency.", .total),
  .init("stage.execute", .time, "The backend's time.", .execute),
  .init("bytes", .bytes, "Transferred.", .bytes),
  .init("failed", .flag, "It failed.", .failed),
  .init(
    "status", .choice(Choices([("success", 0), ("lba-out-of-range", 0x80)], numberMask: 0x7ff)), "Status.", .status),
  // Values above 0xff are of admin commands.
  .init(
    "opcode",
    .choice(
      Choices(
        [("read", 2), ("write", 1), ("identify", 0x106), ("fabrics", 0x7f), ("fabrics", 0x17f)], numberMask: 0xff)),
    "Opcode.", .opcode),
  .init("event", .choice(Choices([("fetch", 4), ("completion", 8), ("time", 27)])), "Kind.", .event),
  .init("cq[].full", .flag, "The completion queue is full.", index: 0...65535) { .full($0) },
  .init("sq[].head", .number, "SQ head pointer.", index: 0...65535) { .head($0) },
  .init("register", .number, "Value of a register.", words: [("CC", .register("CC")), ("CSTS", .register("CSTS"))]),
])

func holds(_ text: String, _ values: [Place: UInt64] = [:]) throws -> Bool {
  try Expression(text, vocabulary).holds { values[$0] }
}

func mistake(_ text: String) -> ExpressionError? {
  do {
    _ = try Expression(text, vocabulary)
    return nil
  } catch { return error }
}

@Suite("Expressions")
struct ExpressionTests {
  @Test(
    "a comparison holds for the values that it says",
    arguments: [
      ("qid == 3 && cid == 0x140", [.qid: 3, .cid: 0x140], [.qid: 3, .cid: 0x141]),
      ("event == completion && status != 0", [.event: 8, .status: 0x80], [.event: 8, .status: 0]),
      ("status == lba-out-of-range", [.status: 0x80], [.status: 0x81]),
      ("stage.execute > 50us", [.execute: 50_001], [.execute: 50_000]),
      ("total >= 1ms", [.total: 1_000_000], [.total: 999_999]),
      ("total < 1.5us", [.total: 1_499], [.total: 1_500]),
      ("total <= 7", [.total: 7], [.total: 8]),
      ("50us < stage.execute", [.execute: 50_001], [.execute: 50_000]),
      ("cq[1].full", [.full(1): 1], [.full(2): 1]),
      ("sq[ 0x2 ].head == 5", [.head(2): 5], [.head(2): 4]),
      ("sq[1].head == sq[2].head", [.head(1): 5, .head(2): 5], [.head(1): 4, .head(2): 5]),
      ("register CC == 1", [.register("CC"): 1], [.register("CSTS"): 1]),
      ("register CC & 1 != 0", [.register("CC"): 0x460001], [.register("CC"): 0x460000]),
      ("opcode == read", [.opcode: 2], [.opcode: 0x102]),
      ("opcode == fabrics", [.opcode: 0x17f], [.opcode: 0x7e]),
      ("opcode != fabrics", [.opcode: 0x17e], [.opcode: 0x7f]),
      ("opcode == 6", [.opcode: 0x106], [.opcode: 7]),
      ("opcode in (write, identify)", [.opcode: 0x106], [.opcode: 2]),
      ("status in 0x80..0xff", [.status: 0x80], [.status: 0x100]),
      ("failed", [.failed: 1], [.failed: 0]),
      ("!failed", [.failed: 0], [.failed: 1]),
      ("not not failed", [.failed: 1], [.failed: 0]),
      ("!qid == 3", [.qid: 4], [.qid: 3]),
      ("(failed || qid == 2) && cid == 1", [.failed: 0, .qid: 2, .cid: 1], [.failed: 1, .qid: 2, .cid: 0]),
      ("failed || qid == 2 && cid == 1", [.failed: 1, .cid: 0], [.failed: 0, .qid: 2, .cid: 0]),
      ("failed or qid == 2 and not cid == 1", [.failed: 0, .qid: 2, .cid: 0], [.failed: 0, .qid: 2, .cid: 1]),
      ("bytes > 64KiB", [.bytes: 65_537], [.bytes: 65_536]),
      ("bytes == 1.5kB", [.bytes: 1_500], [.bytes: 1_536]),
      ("total in 1ms..2ms", [.total: 2_000_000], [.total: 2_000_001]),
      ("qid in 2..3", [.qid: 2], [.qid: 1]),
      ("qid in (1, 4+2, 9)", [.qid: 5], [.qid: 6]),
      ("slba in 100..200", [.first: 90, .last: 100], [.first: 90, .last: 99]),
      ("slba in 100+8", [.first: 107, .last: 300], [.first: 108, .last: 300]),
      ("slba in 100", [.first: 100, .last: 100], [.first: 101, .last: 101]),
      ("slba == 100", [.first: 100, .last: 107], [.first: 96, .last: 103]),
      ("total > 18446744073709551614ns", [.total: .max], [.total: .max - 1]),
    ] as [(String, [Place: UInt64], [Place: UInt64])])
  func comparisons(text: String, yes: [Place: UInt64], no: [Place: UInt64]) throws {
    #expect(try holds(text, yes))
    #expect(try !holds(text, no))
  }

  @Test("every condition on an absent value is false, and its negation true")
  func absent() throws {
    for text in [
      "qid == 0", "qid != 0", "qid in 0..9", "failed", "opcode == read", "opcode != fabrics", "slba in 0..9",
      "qid == cid",
      "total < 1s",
    ] {
      #expect(try !holds(text), "\(text)")
      #expect(try holds("!(\(text))"), "\(text)")
    }
    #expect(try !holds("qid == cid", [.qid: 0]))
    #expect(try !holds("slba in 0..9", [.first: 0]))
  }

  @Test("the variables are those that it uses, each once, in order")
  func variables() throws {
    let expression = try Expression(
      "cq[1].full || qid == 3 && qid != cid && register CC == 1 || cq[0x1].full", vocabulary)
    #expect(expression.variables.map(\.name) == ["cq[1].full", "qid", "cid", "register CC"])
    #expect(expression.variables.map(\.place) == [.full(1), .qid, .cid, .register("CC")])
    #expect(try Expression("slba in 1..2", vocabulary).variables.map(\.place) == [.first, .last])
  }

  @Test("only what can decide the result is asked for")
  func shortCircuit() throws {
    var asked: [Place] = []
    let expression = try Expression("qid == 1 && (cid == 2 || failed) || total > 1s", vocabulary)
    #expect(
      !expression.holds {
        asked.append($0)
        return 0
      })
    #expect(asked == [.qid, .total])
  }

  @Test("changes compares with the last value that was present")
  func changes() throws {
    let expression = try Expression("qid == 1 && sq[2].head changes || register CC & 1 changes", vocabulary)
    #expect(expression.hasChanges)
    var watch = WatchedValues(expression)
    func step(_ values: [Place: UInt64]) -> Bool { expression.holds(&watch) { values[$0] } }
    // The first is no change, nor is the same one.
    #expect(!step([.qid: 1, .head(2): 5, .register("CC"): 0]))
    #expect(!step([.qid: 1, .head(2): 5, .register("CC"): 2]))
    #expect(step([.qid: 1, .head(2): 6]))
    // It is also observed while the rest is false, and an absent one is passed over.
    #expect(!step([.qid: 2, .head(2): 7]))
    #expect(!step([.qid: 1, .head(2): 7]))
    #expect(!step([.qid: 1]))
    #expect(step([.qid: 1, .head(2): 8]))
    #expect(step([.register("CC"): 1]))
    #expect(!expression.holds { _ in 1 }, "without a watch, nothing changes")
    #expect(try !Expression("qid == 1", vocabulary).hasChanges)
  }

  @Test("vocabularies are joined; where both have a name, that of the first counts")
  func joined() throws {
    enum Both: Hashable {
      case engine(Place)
      case command(Place)
    }
    let engine = Vocabulary<Place>([vocabulary.definitions[0], .init("register", .flag, "An access.", .failed)])
    let both = engine.map { Both.engine($0) } + vocabulary.map { Both.command($0) }
    let expression = try Expression("qid == 1 && cq[7].full && register && register CC changes", both)
    let places: [Both] = [.engine(.qid), .command(.full(7)), .engine(.failed), .command(.register("CC"))]
    #expect(expression.variables.map(\.place) == places)
  }

  @Test("an option's value is one value")
  func options() throws {
    #expect(try Expression("status", "==", value: "0x80", vocabulary).holds { _ in 0x80 })
    #expect(try Expression("slba", "in", value: "1..2", vocabulary).holds { $0 == .first ? 0 : 1 })
    for value in ["0 || failed", "", "(1)", "1 and failed", "!failed", "read changes", "1 == 1"] {
      #expect(throws: ExpressionError.self) { try Expression("status", "==", value: value, vocabulary) }
    }
  }
}

@Suite("Mistakes in expressions")
struct MistakeTests {
  @Test(
    "a mistake is named, with its place",
    arguments: [
      ("", 1, "the expression is empty"),
      ("  ", 3, "the expression is empty"),
      ("stage.exekute > 50us", 1, "there is no 'stage.exekute' (did you mean stage.execute?"),
      ("stage.exekute > 50us", 1, "the names are qid, cid, slba, total,"),
      ("nonsense", 1, "cq[N].full, sq[N].head, register WORD"),
      ("failed && cp[1].full", 11, "(did you mean cq[N].full?"),
      ("cq[70000].full", 1, "the index of cq[N].full is a number from 0 to 65535"),
      ("cq[].full", 4, "an index is a number, as in cq[1]"),
      ("cq[1ms].full", 4, "an index is a number, as in cq[1]"),
      ("cq[1.full", 5, "] is missing after the index"),
      ("cq[1 && failed", 6, "] is missing"),
      ("cq[1][2]", 6, "a name has one index"),
      ("cq[\n0x1 ].full == 1", 1, "cq[1].full is a flag"),
      ("cq == 1", 1, "'cq' is incomplete; write cq[N].full"),
      ("register == 1", 1, "'register' is incomplete; write register CC"),
      ("register CS == 1", 10, "register has no 'CS' (did you mean CC?"),
      ("qid", 1, "qid is a number: compare it, as in qid == 1"),
      ("opcode && failed", 1, "opcode is a choice of names: compare it, as in opcode == read"),
      ("failed > 5us", 1, "failed is a flag: write failed or !failed"),
      ("failed == 1", 1, "failed is a flag"),
      ("failed == nonsense", 1, "failed is a flag"),
      ("qid == cide", 8, "qid is a number, and there is no 'cide' (did you mean cid?)"),
      ("failed in 1..2", 1, "failed is a flag"),
      ("qid == failed", 8, "failed is a flag"),
      (
        "stage.execute > read", 17,
        "stage.execute is a time, and there is no 'read'; compare it as in stage.execute > 50us"
      ),
      ("stage.execute > qid", 17, "stage.execute is a time and qid a number: they cannot be compared"),
      ("stage.execute > 64KiB", 17, "stage.execute is a time, and '64KiB' is a number of bytes"),
      ("qid == 5us", 8, "qid is a number, and '5us' is a time"),
      ("opcode == 5us", 11, "opcode is a choice of names, and '5us' is a time"),
      ("status == 0x800", 11, "status is at most 0x7ff"),
      ("opcode in 1..256", 14, "opcode is at most 0xff"),
      ("opcode == reed", 11, "opcode is never 'reed' (did you mean read?"),
      ("opcode > read", 1, "read has no order: write opcode == read or opcode != read"),
      ("opcode == status", 11, "they cannot be compared"),
      ("qid = 3", 5, "write == for equal"),
      ("qid == 3 | failed", 10, "write || for or"),
      ("qid == 3 & failed", 10, "&& or || must stand before '&'"),
      ("qid & failed", 7, "a number must follow &"),
      ("total & 1 == 1", 1, "total is a time, which has no bits"),
      ("qid == -1", 8, "there are no negative numbers"),
      ("qid == 1 failed", 10, "&& or || must stand before 'failed'"),
      ("1 == 1", 6, "a number must be compared with a variable"),
      ("3 && failed", 1, "'3' is no condition"),
      ("1 < qid < 5", 9, "a comparison has two sides; write a range as in 1..5"),
      ("(qid == 1", 1, "this parenthesis is never closed"),
      ("qid == 1)", 9, "this parenthesis closes none"),
      ("(qid == 1 qid == 2)", 11, "&&, || or ) must stand before 'qid'"),
      ("failed &&", 10, "a condition must stand before the end"),
      ("qid ==", 7, "a value must stand before the end"),
      ("qid in", 7, "a value or a range must stand before the end, as in qid in 100..200"),
      ("qid in 5..2", 8, "the range is empty"),
      ("qid in 5+0", 10, "the range is empty"),
      ("qid in 2+18446744073709551615", 10, "the range ends beyond 64 bits"),
      ("qid in 1..", 11, "a number must end the range, not the end"),
      ("qid in (1, 2", 13, "a comma or ) must stand before the end"),
      ("total in 1ms..2KiB", 15, "total is a time, and '2KiB' is a number of bytes"),
      ("qid == 18446744073709551616", 8, "is too large"),
      ("total > 99999999999s", 9, "is too large"),
      ("qid == 0x10000000000000000", 8, "is too large"),
      ("qid == 0x", 8, "no hexadecimal number"),
      ("qid == 0x1g", 8, "no hexadecimal number"),
      ("qid == 1.5", 8, "1.5 is not a whole number"),
      ("total > 5 parsecs", 11, "&& or || must stand before 'parsecs'"),
      ("total > 5min", 10, "'min' is no unit: write ns, us"),
      ("µqid == 1", 1, "'µ' is no part of an expression"),
      ("total > 5µs && $", 16, "'$' is no part of an expression"),
      ("\u{1b}[31m", 1, "'\\x1b' is no part"),
    ])
  func mistakes(text: String, column: Int, message: String) throws {
    let error = try #require(mistake(text), "\(text)")
    #expect(error.message.contains(message), "\(text): \(error)")
    #expect(error.column == column, "\(text): \(error)")
    #expect(error.description.allSatisfy { !$0.isNewline && $0 != "\u{1b}" })
  }

  @Test("a caret stands below the mistake")
  func caret() throws {
    #expect(try #require(mistake("total > 5µs\n&& qid = 1")).marked == "total > 5µs && qid = 1\n                   ^")
  }

  @Test("length and depth are bounded")
  func bounds() throws {
    func nested(_ depth: Int) -> String {
      String(repeating: "(", count: depth) + "failed" + String(repeating: ")", count: depth)
    }
    #expect(try holds(nested(64), [.failed: 1]))
    #expect(mistake(nested(65))?.message == "parentheses are nested more than 64 times")
    #expect(try holds(String(repeating: "!", count: 4090) + "failed", [.failed: 1]))
    let long = String(repeating: "failed||", count: 511) + "failed"
    #expect(try holds(long, [.failed: 1]))
    #expect(mistake(long + "||failed")?.message == "the expression is longer than 4096 bytes")
  }
}
