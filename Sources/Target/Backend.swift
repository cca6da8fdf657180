import NVMe

/// Storage behind a namespace. A write's data is put into it before it executes, a read's is taken from it after.
public protocol Backend {
  /// As the command line and reports name it.
  static var name: String { get }
  /// Where the bytes of a namespace lie; nil where none are kept: then a read leaves the host's buffer as it was, and a
  /// write's data is not fetched.
  var storage: UnsafeMutableRawPointer? { get }
  /// Do what the request asks, but for its transfer.
  func execute(_ request: IORequest) -> Status
}

/// Completes everything and keeps nothing: what remains is the front end.
public struct NullBackend: Backend, BitwiseCopyable {
  public static let name = "null"
  public init() {}
  public var storage: UnsafeMutableRawPointer? { nil }
  public func execute(_ request: IORequest) -> Status { .success }
}

/// Blocks in memory. It does not own them.
public struct MemoryBackend: Backend, BitwiseCopyable {
  public static let name = "memory"
  private let base: UnsafeMutableRawPointer

  /// - Parameter base: as many bytes as the namespace has, zero where nothing was written.
  public init(base: UnsafeMutableRawPointer) { self.base = base }

  public var storage: UnsafeMutableRawPointer? { base }

  public func execute(_ request: IORequest) -> Status {
    if request.opcode == .writeZeroes {
      (base + Int(request.byteOffset)).initializeMemory(as: UInt8.self, repeating: 0, count: Int(request.byteCount))
    }
    return .success
  }
}
