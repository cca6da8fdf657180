import Chance
import Foundation
import Testing
import Text

@Suite("Numbers and JSON")
struct NumberTests {
  /// A simulation's trace and the printed seeds of tests stand on this sequence.
  @Test("a seed gives SplitMix64's sequence")
  func sequence() {
    var random = SeededGenerator(seed: 0)
    #expect(
      (0..<3).map { _ in random.next() } == [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f])
    var again = SeededGenerator(seed: 1)
    #expect((0..<1000).allSatisfy { _ in (0..<1).contains(again.unit()) })
  }

  /// Identities of endpoints are made of it, so it must not change from version to version.
  @Test("a text's hash never changes and differs for each purpose")
  func hash() {
    #expect(StableHash.of("serial", "/run/a") == 0xf573_c4f1_2e3b_23a2)
    #expect(StableHash.of("serial", "/run/a") != StableHash.of("controller", "/run/a"))
  }

  @Test("hexadecimal has the requested number of digits")
  func hexadecimal() {
    #expect(UInt64(0).hex == "0x0" && UInt64.max.hex == "0xffffffffffffffff" && 31.hex == "0x1f")
    #expect(UInt8(5).hex(digits: 2) == "0x05" && UInt16(0x1234).hex(digits: 2) == "0x1234")
    #expect(UInt64(0xab).hexDigits(4) == "00ab" && UInt64(0x12_3456).hexDigits(4) == "3456")
  }

  @Test("an object is one line in its own order and reads back")
  func line() throws {
    let object: JSON = [
      "z": .integer(-1), "a": .array([.boolean(true), .number(0.5), .string("a\"\\\n\u{1b}")]), "o": [:], "l": [],
      "n": .integer(UInt64.max),
    ]
    #expect(object.line == #"{"z":-1,"a":[true,0.5,"a\"\\\u000a\u001b"],"o":{},"l":[],"n":18446744073709551615}"#)
    let read = try #require(try JSONSerialization.jsonObject(with: Data(object.line.utf8)) as? [String: Any])
    #expect(read["z"] as? Int == -1 && (read["a"] as? [Any])?[2] as? String == "a\"\\\n\u{1b}")
  }
}

@Suite("Numbers")
struct QuantityTests {
  @Test(
    "have a suitable unit",
    arguments: [
      (0, "0 ns"), (12.34, "12.3 ns"), (812, "812 ns"), (999.7, "1.00 µs"), (6431, "6.43 µs"), (47_516, "47.5 µs"),
      (1_200_000, "1.20 ms"), (12e9, "12.0 s"),
    ])
  func time(ns: Double, text: String) { #expect(Quantity.time(ns) == text) }

  @Test("are grouped by three digits, whole or not")
  func grouping() {
    #expect([0, 123, 1234, -1_204_224].map { Quantity.count($0) } == ["0", "123", "1,234", "-1,204,224"])
    #expect(Quantity.count(UInt64.max) == "18,446,744,073,709,551,615")
    #expect([0.05, -1234.5, 1e6].map { Quantity.decimal($0, 2) } == ["0.05", "-1,234.50", "1,000,000.00"])
    #expect([1.234, 99.94, 1_667.4].map(Quantity.significant) == ["1.23", "99.9", "1,667"])
    #expect(Quantity.percent(147.851) == "14,785.1%")
  }

  @Test("of bytes have decimal units")
  func bytes() {
    #expect(
      [999.0, 1000, 53_000_000, 4_096_000_000].map { Quantity.bytes($0) } == ["999 B", "1.00 kB", "53.0 MB", "4.10 GB"])
  }

  @Test("show small shares as more than zero")
  func percent() {
    #expect([0, 0.0001, 0.073, 1].map { Quantity.percent($0) } == ["0.0%", "<0.1%", "7.3%", "100.0%"])
  }
}
