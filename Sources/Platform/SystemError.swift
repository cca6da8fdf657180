import Glibc

/// Why a system call failed.
public struct SystemError: Error, Equatable, CustomStringConvertible, Sendable {
  /// Of `errno`.
  public let code: Int32

  public init(code: Int32) { self.code = code }

  /// In the C library's words.
  public var description: String { String(cString: strerror(code)) }
}
