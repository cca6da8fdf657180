import HostLibrary
import Testing

@Suite("The host library")
struct HostLibraryTests {
  @Test("control characters in an error are escaped")
  func reason() {
    var reason = [CChar](repeating: 0, count: 512)
    #expect(hostOpen("/nowhere/\u{1b}[2J\n", &reason, reason.count) == nil)
    let text = String(decoding: reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    #expect(text.contains("/nowhere/\\x1b[2J\\n"))
  }
}
