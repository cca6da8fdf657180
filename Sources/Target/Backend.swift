import NVMe

/// Storage behind a namespace. A read's data is taken from it after it executed, a write's is given to it before.
public protocol Backend: AnyObject {
  /// As reports name it: `null`, `memory`.
  var name: String { get }
  /// Whether data lies behind it at all. Where none does, a read leaves the host's buffer as it was and a write's data
  /// is not fetched.
  var keepsData: Bool { get }
  /// Where `count` bytes at `offset` lie, for reading or writing; checked against the namespace's size by the caller.
  func bytes(at offset: UInt64, count: Int) -> UnsafeMutableRawPointer
  /// Do what the request asks, but for its transfer.
  func execute(_ request: IORequest) -> Status
}
