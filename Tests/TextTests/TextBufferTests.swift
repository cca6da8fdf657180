import Testing
import Text

@Suite("Text as bytes")
struct TextBufferTests {
  @Test("writes numbers like String")
  func numbers() {
    var values: [UInt64] = [0, .max]
    for shift in UInt64(0)..<64 { values += [1 << shift, 1 << shift - 1] }
    for power in 0..<20 { values.append((0..<power).reduce(1) { number, _ in number * 10 }) }
    for value in values {
      var text = TextBuffer()
      text.append(value)
      text.append(" ")
      text.append(hex: value)
      #expect(text.text == "\(value) \(value.hex)")
    }
  }

  @Test("grows, and is empty again after removeAll")
  func grows() {
    var text = TextBuffer()
    for _ in 0..<3000 { text.append("é–") }
    #expect(text.text == String(repeating: "é–", count: 3000))
    text.removeAll()
    text.append(spaces: 2)
    text.append(spaces: -1)
    #expect(text.text == "  ")
  }
}
