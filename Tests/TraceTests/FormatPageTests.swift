import Foundation
import Testing

@testable import Trace

@Suite("docs/trace-format.md")
struct FormatPageTests {
  @Test("its table of events is the one that the code has")
  func isCurrent() throws {
    let page = URL(fileURLWithPath: #filePath).appending(path: "../../../docs/trace-format.md").standardized
    let text = try String(contentsOf: page, encoding: .utf8)
    if !text.contains(table()) { print("the table that docs/trace-format.md should have:\n\(table())") }
    #expect(text.contains(table()))
  }

  private func table() -> String {
    var lines = ["| kind | name | meaning | fields |", "|---|---|---|---|"]
    for kind in EventKind.allCases {
      let description = kind.description
      let fields = description.fields.map { "`\($0.name)` \(place($0.place)): \($0.meaning)" }
      lines.append(
        "| \(kind.rawValue) | `\(description.name)` | \(description.meaning) | \(fields.joined(separator: "<br>")) |")
    }
    return lines.joined(separator: "\n")
  }

  private func place(_ place: FieldPlace) -> String {
    switch place {
    case .tail(let offset, let width): "tail \(offset), \(width) B"
    default: "\(place)"
    }
  }
}
