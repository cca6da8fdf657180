/// Why a command was not carried out, in one line that says what to do.
public struct DebuggerError: Error, CustomStringConvertible {
  public let description: String
  init(_ description: String) { self.description = description }
}
