/// Why the kernel cannot be recorded, in one line that includes a remedy.
public struct ProbeError: Error, CustomStringConvertible {
  public let description: String

  init(_ description: String) { self.description = description }
}
