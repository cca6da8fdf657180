import Analysis
import Expressions
import Foundation
import Testing

@testable import Report

@Suite("The page of expressions")
struct ExpressionPageTests {
  private static let page = #filePath.replacing(
    "Tests/ReportTests/ExpressionPageTests.swift", with: "docs/expressions.md")

  @Test("the page has every name")
  func names() throws {
    var text = try String(contentsOfFile: Self.page, encoding: .utf8)
    let written = text
    for (owner, table) in [("commands", table(.commands)), ("events", table(.events))] {
      let marker = try #require(text.range(of: "<!-- names of \(owner): ")).upperBound
      let begin = try #require(text[marker...].range(of: "-->\n")).upperBound
      let end = try #require(text[begin...].range(of: "<!-- end -->")).lowerBound
      text.replaceSubrange(begin..<end, with: table)
    }
    if ProcessInfo.processInfo.environment["UPDATE_DOCS"] != nil {
      try text.write(toFile: Self.page, atomically: true, encoding: .utf8)
    } else {
      #expect(
        text == written,
        "docs/expressions.md is not up to date: UPDATE_DOCS=1 swift test --no-parallel --filter ExpressionPage")
    }
  }

  @Test("every example of the page is an expression")
  func examples() throws {
    let text = try String(contentsOfFile: Self.page, encoding: .utf8)
    let lines = text.split(separator: "\n").filter { $0.hasPrefix("    nvmepf ") }
    let examples = lines.map { $0.split(separator: "'")[1] }.map(String.init)
    #expect(examples.count > 3)
    for example in examples {
      let isOfCommand = (try? Expressions.Expression(example, .commands)) != nil
      let isOfEvent = (try? Expressions.Expression(example, .events)) != nil
      #expect(isOfCommand || isOfEvent, "\(example)")
    }
  }

  private func table<Place>(_ vocabulary: Vocabulary<Place>) -> String {
    let rows = vocabulary.definitions.map { "| `\($0.usage)` | \(word($0.kind)) | \($0.meaning) |\n" }
    return "| name | kind | |\n|---|---|---|\n" + rows.joined()
  }

  private func word(_ kind: ValueKind) -> String {
    switch kind {
    case .number: "number"
    case .time: "time"
    case .bytes: "bytes"
    case .flag: "flag"
    case .choice(let choices):
      choices.names.count > 12 ? "choice" : choices.names.map { "`\($0)`" }.joined(separator: ", ")
    }
  }
}
