import Glibc
import Platform
import Text
import Trace

/// Shows on a terminal how far traces have been read, from the first second on.
public enum ReadingProgress {
  private static let firstMs = 1000
  private static let nextMs = 200

  /// Do this while it reads these traces.
  /// - Parameter isShown: nil if standard error is a terminal, and standard output is none that `body` prints to.
  public static func show<Result>(
    _ readers: [TraceReader], isShown: Bool? = nil, _ body: () throws -> Result
  ) rethrows -> Result {
    guard isShown ?? (isatty(STDERR_FILENO) == 1) else { return try body() }
    let end = Signal()
    let thread = try? WorkerThread(name: "nvmepf-progress", handlesSignals: false) {
      var isLate = false
      while !end.wait(milliseconds: isLate ? nextMs : firstMs) {
        isLate = true
        showProgress(text(readers))
      }
      if isLate { showProgress("") }
    }
    defer {
      end.raise()
      thread?.join()
    }
    return try body()
  }

  private static func text(_ readers: [TraceReader]) -> String {
    // The one that is read now: the first that is not done.
    let states = readers.map { (reader: $0, all: $0.chunks.reduce(UInt64(0)) { $0 &+ $1.header.length }) }
    let current = states.first { $0.reader.bytesDecoded < $0.all } ?? states.last
    return current.map { line($0.reader.path, read: $0.reader.bytesDecoded, of: $0.all) } ?? ""
  }

  /// - Parameters:
  ///   - read: bytes, those of a second time included.
  ///   - all: bytes of one time.
  static func line(_ path: String, read: UInt64, of all: UInt64) -> String {
    guard all > 0 else { return "reading \(path)" }
    let again = read > all ? " again" : ""
    let part = read > all ? (read - 1) % all + 1 : read
    return "reading \(path)\(again): \(Quantity.decimal(Double(part) / Double(all) * 100, 0)) %"
  }
}
