import NVMe

/// Why the driver cannot use a controller, in one line.
public struct HostError: Error, CustomStringConvertible, Sendable {
  public let description: String

  public init(_ description: String) { self.description = description }
}

extension HostError {
  static func failed(_ what: String, _ status: Status) -> HostError {
    HostError("\(what) failed with status 0x\(String(status.rawValue, radix: 16))")
  }
}
