import Events
import Glibc
import Testing

@testable import Trace

@Suite struct FormatPageTests {
  private static let page = #filePath.replacing("Tests/TraceTests/FormatPageTests.swift", with: "docs/trace-format.md")

  @Test("The format page's table of events is the event table")
  func table() throws {
    let text = String(decoding: try readFile(Self.page), as: UTF8.self)
    let begin = try #require(text.range(of: "<!-- events: ")?.upperBound)
    let tableBegin = try #require(text[begin...].firstIndex(of: "\n"))
    let end = try #require(text.range(of: "<!-- events end -->")?.lowerBound)
    let table = "\n" + eventTable() + "\n"
    if getenv("UPDATE_DOCS") != nil {
      try writeFile(Self.page, Array((text[..<tableBegin] + table + text[end...]).utf8))
    } else {
      #expect(
        text[tableBegin..<end] == table,
        "docs/trace-format.md is not up to date: UPDATE_DOCS=1 swift test --no-parallel --filter FormatPage")
    }
  }

  private func eventTable() -> String {
    var lines: [String] = []
    for kind in EventKind.allCases {
      let event = kind.description
      var tail = ""
      if event.fixedTailBytes > 0 { tail = " \(event.fixedTailBytes) bytes follow." }
      if event.carriesBytes { tail = " Carries bytes." }
      lines.append("**\(kind.rawValue) `\(event.name)`** \(event.meaning)\(tail)")
      lines.append("")
      lines.append("| field | offset | width | unit | |")
      lines.append("|---|---|---|---|---|")
      for field in event.fields {
        let (offset, width) = field.place.location
        lines.append("| `\(field.name)` | \(offset) | \(width) | \(field.unit) | \(field.meaning) |")
      }
      lines.append("")
    }
    return lines.joined(separator: "\n")
  }
}

extension String {
  /// Where `other` stands first.
  fileprivate func range(of other: String) -> Range<String.Index>? { ranges(of: other).first }
}
