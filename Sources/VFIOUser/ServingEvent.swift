/// What happens between a server and its client, seldom enough to be told.
public enum ServingEvent: Equatable, Sendable {
  case clientCame
  /// The minor version that both speak.
  case negotiated(minor: UInt16)
  /// The first memory of a client that came without a descriptor: nothing can reach it.
  case memoryNotShared(address: UInt64, size: UInt64)
  /// The first memory of a client that was refused since its file system may never answer.
  case memoryRefused(address: UInt64, size: UInt64)
  case clientLeft
}
