import Glibc

/// Why a system call failed.
public struct SystemError: Error, Equatable, CustomStringConvertible, Sendable {
  /// An `errno`.
  public let code: Int32
  private let remedy: String?

  /// - Parameter remedy: what to do about it, if known.
  public init(code: Int32, remedy: String? = nil) { (self.code, self.remedy) = (code, remedy) }

  /// The C library's message, and the remedy.
  public var description: String { String(cString: strerror(code)) + (remedy.map { "; \($0)" } ?? "") }
}
