import EventTable
import Events
import Foundation
import Testing
import Text

@testable import Faults

@Suite struct FaultPageTests {
  private static let page = #filePath.replacing("Tests/FaultsTests/FaultPageTests.swift", with: "docs/injection.md")

  @Test("the page's table of faults is the catalogue")
  func table() throws {
    let text = try String(contentsOfFile: Self.page, encoding: .utf8)
    let begin = try #require(text.range(of: "<!-- faults: ")?.upperBound)
    let tableBegin = try #require(text[begin...].firstIndex(of: "\n"))
    let end = try #require(text.range(of: "<!-- faults end -->")?.lowerBound)
    let table = "\n" + Self.table + "\n"
    if ProcessInfo.processInfo.environment["UPDATE_DOCS"] != nil {
      try (text[..<tableBegin] + table + text[end...]).write(toFile: Self.page, atomically: true, encoding: .utf8)
    } else {
      #expect(
        text[tableBegin..<end] == table,
        "docs/injection.md is not up to date: UPDATE_DOCS=1 swift test --no-parallel --filter FaultPage")
    }
  }

  private static var table: String {
    let rows = Fault.Kind.allCases.map { kind in
      let fault = kind.described
      let rule = (fault.rule ?? "None.") + " " + fault.section
      return "| `\(fault.spec)` | \(fault.effect) | \(rule) | \(fault.advice) |"
    }
    return (["| SPEC | the host sees | rule that it breaks | a driver should |", "|---|---|---|---|"] + rows)
      .joined(separator: "\n")
  }

  @Test("the numbers and names of the event table are those of the faults")
  func numbers() throws {
    let choices = try #require(EventKind.fault.description.fields.first).values
    #expect(choices.map(\.value) == Fault.Kind.allCases.map(\.rawValue))
    #expect(choices.map(\.name.hyphenated) == Fault.Kind.allCases.map(\.name))
  }
}
