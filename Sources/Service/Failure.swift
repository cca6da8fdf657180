/// Ends a command with a line of text, rarely several.
public struct Failure: Error, CustomStringConvertible {
  /// Lines of the message.
  public let lines: [String]
  /// Exit status.
  public var status: Int32 = 2

  public init(lines: [String], status: Int32 = 2) {
    self.lines = lines
    self.status = status
  }

  public init(description: String, status: Int32 = 2) { self.init(lines: [description], status: status) }

  public var description: String { lines.joined(separator: "\n") }
}
