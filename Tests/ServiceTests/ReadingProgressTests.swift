import Testing
import Trace

@testable import Service

@Suite("How far a trace has been read")
struct ReadingProgressTests {
  @Test("is shown in percent, and says when a trace is read again")
  func line() {
    #expect(ReadingProgress.line("a.nvpt", read: 0, of: 200) == "reading a.nvpt: 0 %")
    #expect(ReadingProgress.line("a.nvpt", read: 200, of: 200) == "reading a.nvpt: 100 %")
    #expect(ReadingProgress.line("a.nvpt", read: 250, of: 200) == "reading a.nvpt again: 25 %")
    #expect(ReadingProgress.line("a.nvpt", read: 400, of: 200) == "reading a.nvpt again: 100 %")
    #expect(ReadingProgress.line("a.nvpt", read: 5, of: 0) == "reading a.nvpt")
  }

  @Test("counts every chunk that was decoded, and the result passes through")
  func counts() throws {
    let path = #filePath.replacing("Tests/ServiceTests/ReadingProgressTests.swift", with: "traces/namespaces.nvpt")
    let reader = try TraceReader(path: path)
    let all = reader.chunks.reduce(UInt64(0)) { $0 + $1.header.length }
    for round in 1...2 as ClosedRange<UInt64> {
      let events = try ReadingProgress.show([reader], isShown: true) {
        var events = try MergedEvents(reader)
        var count = 0
        while try events.next() != nil { count += 1 }
        return count
      }
      #expect(events > 0 && reader.bytesDecoded == round * all)
    }
  }
}
