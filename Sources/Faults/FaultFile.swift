extension Fault {
  /// Faults of one endpoint at most.
  public static let countMax = 256

  /// Parse the text of a file: one SPEC a line; `#` begins a comment, and empty lines mean nothing.
  /// - Throws: the first error, with its line number.
  public static func parse(file text: String) throws(FaultError) -> [Fault] {
    var all: [Fault] = []
    for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
      var spec = line.prefix { $0 != "#" }
      while spec.first?.isWhitespace == true { spec.removeFirst() }
      while spec.last?.isWhitespace == true { spec.removeLast() }
      guard !spec.isEmpty else { continue }
      guard all.count < countMax else {
        throw FaultError(description: "line \(index + 1): more than \(countMax) faults")
      }
      do throws(FaultError) { all.append(try Fault(String(spec))) } catch {
        throw FaultError(description: "line \(index + 1): \(error.description)")
      }
    }
    return all
  }
}
