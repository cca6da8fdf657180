/// Rare events between a server and its client, for the log.
public enum ServingEvent: Equatable, Sendable {
  case clientCame
  /// The negotiated minor version.
  case negotiated(minor: UInt16)
  /// The first memory of a client without a descriptor: the device cannot access it.
  case memoryNotShared(address: UInt64, size: UInt64)
  /// The first memory of a client that was refused because its file system may never answer.
  case memoryRefused(address: UInt64, size: UInt64)
  case clientLeft
}
