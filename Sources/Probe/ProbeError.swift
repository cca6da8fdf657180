/// Why the kernel cannot be recorded, in one line that says what to do.
public struct ProbeError: Error, CustomStringConvertible {
  public let description: String

  init(_ description: String) { self.description = description }
}
