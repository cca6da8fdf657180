import Foundation
import Testing
import Text

@Suite("Text from outside")
struct PrintableTextTests {
  /// What a terminal obeys or hides: C0, DEL, C1, separators, bidirectional controls, invisible characters.
  static let hostile: [Unicode.Scalar] =
    (Array(0...0x1f) + Array(0x7f...0x9f) + [
      0xad, 0x61c, 0x200b, 0x200e, 0x2028, 0x2029, 0x202a, 0x202e, 0x2066, 0x2069, 0xfeff, 0xe0041,
    ])
    .map { Unicode.Scalar($0 as UInt32)! }

  @Test("Every character that controls a terminal or is invisible is escaped", arguments: hostile)
  func escaped(scalar: Unicode.Scalar) {
    let text = "a\(scalar)b".printable()
    #expect(!text.unicodeScalars.contains(scalar))
    #expect(text.hasPrefix("a\\") && text.hasSuffix("b"))
    #expect(text.printable() == text)
  }

  @Test("Escapes name the character")
  func names() {
    #expect("\u{1b}[2J".printable() == "\\x1b[2J")
    #expect("a\nb\r\tc\u{7f}\u{9b}\u{202e}".printable() == "a\\nb\\r\\tc\\x7f\\u{9b}\\u{202e}")
    #expect("one\ntwo\u{7}".printableLines == "one\ntwo\\x07")
  }

  @Test("Printable text is unchanged")
  func plain() {
    for text in ["", "fio --name=\"a\\b\" ~", "Größe 4 KiB → 日本 ─ 🙂", "e\u{301}"] { #expect(text.printable() == text) }
  }

  @Test("Bytes that are not UTF-8 are replaced")
  func invalid() {
    let text = String(decoding: [0x61, 0x9b, 0x32, 0xff, 0xc0, 0x80, 0xed, 0xa0, 0x80], as: UTF8.self).printable()
    #expect(text.hasPrefix("a\u{fffd}2") && text.unicodeScalars.allSatisfy { $0.value >= 0x20 })
  }

  @Test("Of text that is too long the middle is left out, of whatever characters it consists")
  func long() {
    let text = ("begin" + String(repeating: "x", count: 1 << 20) + "end").printable(limit: 200)
    #expect(text.hasPrefix("beginx") && text.hasSuffix("xend") && text.contains("bytes…"))
    #expect(text.count < 250)
    // One character, as Swift counts them.
    let marks = "a" + String(repeating: "\u{301}", count: 1 << 20)
    #expect(marks.printable(limit: 200).unicodeScalars.count < 1000)
    #expect(String(repeating: "\u{1b}", count: 1 << 20).printable(limit: 200).utf8.count < 2000)
  }

  @Test("JSON keeps the value and none of the characters")
  func json() throws {
    let value = String(String.UnicodeScalarView(PrintableTextTests.hostile))
    let data = try JSONSerialization.data(withJSONObject: ["key": value])
    let text = String(decoding: data, as: UTF8.self).printableJSON
    #expect(text.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f })
    let read = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: String]
    #expect(read == ["key": value])
  }
}
