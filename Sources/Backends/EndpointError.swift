/// Why an endpoint cannot be set up.
public struct EndpointError: Error, CustomStringConvertible {
  public let description: String

  public init(description: String) { self.description = description }
}
