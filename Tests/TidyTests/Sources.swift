import Foundation

/// A file of the package, as lines of code and comment.
struct SourceFile {
  /// From the package's root.
  let path: String
  let lines: [Line]

  struct Line {
    let number: Int
    /// Without its comment.
    let code: Substring
    let comment: Substring
  }

  init(path: String, text: String) {
    self.path = path
    lines = text.split(separator: "\n", omittingEmptySubsequences: false).enumerated().map { index, line in
      let end = SourceFile.comment(in: line)
      return Line(number: index + 1, code: line[..<end], comment: line[end...])
    }
  }

  /// Where a line's comment begins: at the first `//` outside strings.
  private static func comment(in line: Substring) -> Substring.Index {
    var isInString = false
    var before: UInt8 = 0
    var place = line.startIndex
    for byte in line.utf8 {
      if byte == UInt8(ascii: "\""), before != UInt8(ascii: "\\") { isInString.toggle() }
      if byte == UInt8(ascii: "/"), before == byte, !isInString { return line.utf8.index(before: place) }
      before = byte
      place = line.utf8.index(after: place)
    }
    return line.endIndex
  }

  /// The directory under `Sources`, `Tests` or the like that it lies in.
  var module: String { String(path.split(separator: "/")[1]) }
}

/// The package's files.
enum Package {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

  static func text(_ path: String) throws -> String { try String(contentsOfFile: "\(root)/\(path)", encoding: .utf8) }

  /// Files below a directory whose names end in one of these, by their paths from the root.
  static func paths(_ directory: String, _ endings: [String]) throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: "\(root)/\(directory)").sorted()
      .filter { path in endings.contains { path.hasSuffix(".\($0)") } }.map { "\(directory)/\($0)" }
  }

  static func swift(_ directory: String) throws -> [SourceFile] {
    try paths(directory, ["swift"]).map { SourceFile(path: $0, text: try text($0)) }
  }

  /// The product's.
  static let sources: [SourceFile] = (try? swift("Sources")) ?? []
  /// And what tests and measures it.
  static let all: [SourceFile] = sources + ["Tests", "Benchmarks", "Plugins"].flatMap { (try? swift($0)) ?? [] }

  /// Its directories in `Sources` with Swift in them.
  static let modules = Set(sources.map(\.module))
}

extension StringProtocol {
  /// The identifiers in it, in order.
  var words: [Substring] {
    Substring(self).split { !($0.isASCII && ($0.isLetter || $0.isNumber) || $0 == "_") }
  }

  /// What stands between backticks.
  var quoted: [Substring] {
    let parts = Substring(self).split(separator: "`", omittingEmptySubsequences: false)
    return stride(from: 1, to: parts.count - 1, by: 2).map { parts[$0] }
  }

  var trimmed: String { trimmingCharacters(in: .whitespaces) }
}
