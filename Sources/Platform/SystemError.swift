import Glibc

/// Why a system call failed.
public struct SystemError: Error, Equatable, CustomStringConvertible, Sendable {
  /// Of `errno`.
  public let code: Int32
  private let remedy: String?

  /// - Parameter remedy: what to do about it, where that is known.
  public init(code: Int32, remedy: String? = nil) { (self.code, self.remedy) = (code, remedy) }

  /// In the C library's words, and the remedy.
  public var description: String { String(cString: strerror(code)) + (remedy.map { "; \($0)" } ?? "") }
}
