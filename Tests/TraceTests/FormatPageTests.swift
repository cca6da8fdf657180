import Foundation
import Testing

@testable import Trace

/// The table of docs/trace-format.md, from the definition that writer and reader follow.
@Suite struct FormatPageTests {
  private static let table: String = {
    var lines: [String] = []
    for kind in EventKind.allCases {
      let description = kind.description
      lines += ["### \(kind.rawValue): \(description.name)", "", description.meaning, ""]
      if description.fields.isEmpty { continue }
      lines += ["| field | place | meaning |", "|---|---|---|"]
      for field in description.fields {
        let span = field.unit == .span ? "Span of time. " : ""
        lines.append("| `\(field.name)` | \(name(field.place)) | \(span)\(field.meaning) |")
      }
      lines.append("")
    }
    return lines.joined(separator: "\n")
  }()

  private static func name(_ place: FieldPlace) -> String {
    switch place {
    case .aLow: "`a`, lower half"
    case .aHigh: "`a`, upper half"
    case .bLow: "`b`, lower half"
    case .bHigh: "`b`, upper half"
    case .tail(let offset, let width): "tail \(offset), \(width) B"
    default: "`\(place)`"
    }
  }

  @Test("The events on the format page are those of the code")
  func page() throws {
    let file = URL(filePath: #filePath).appending(path: "../../../docs/trace-format.md").standardized
    let page = try String(contentsOf: file, encoding: .utf8)
    let parts = page.components(separatedBy: "## Events\n\n")
    if ProcessInfo.processInfo.environment["NVMEPF_WRITE_FORMAT_PAGE"] != nil {
      try (parts[0] + "## Events\n\n" + Self.table).write(to: file, atomically: true, encoding: .utf8)
      return
    }
    #expect(parts.count == 2 && parts[1] == Self.table, "run this test with NVMEPF_WRITE_FORMAT_PAGE=1 to renew it")
  }
}
