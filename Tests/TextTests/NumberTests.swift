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
  @Test("a text's hash is the same for ever, and another for each purpose")
  func hash() {
    #expect(StableHash.of("serial", "/run/a") == 0xf573_c4f1_2e3b_23a2)
    #expect(StableHash.of("serial", "/run/a") != StableHash.of("controller", "/run/a"))
  }

  @Test("hexadecimal has the digits that are asked for")
  func hexadecimal() {
    #expect(UInt64(0).hex == "0x0" && UInt64.max.hex == "0xffffffffffffffff" && 31.hex == "0x1f")
    #expect(UInt8(5).hex(digits: 2) == "0x05" && UInt16(0x1234).hex(digits: 2) == "0x1234")
    #expect(UInt64(0xab).hexDigits(4) == "00ab" && UInt64(0x12_3456).hexDigits(4) == "3456")
  }

  @Test("an object stands on one line in its own order, and reads back")
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
