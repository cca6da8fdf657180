import Foundation

/// Where the fio engine is.
enum FioEngine {
  private static let name = "nvmepf-fio.so"

  /// The folders that may hold it, relative to the executable: a build's own, then that of an installation.
  static func folders(executable: String) -> [String] {
    let own = (executable as NSString).deletingLastPathComponent
    let installed = ((own as NSString).deletingLastPathComponent as NSString).appendingPathComponent("lib/nvmepf")
    return [own, installed]
  }

  /// The first that exists; nil if none does.
  static func path(executable: String) -> String? {
    folders(executable: executable).map { "\($0)/\(name)" }.first { FileManager.default.fileExists(atPath: $0) }
  }

  /// The engine of this process.
  static let path: String? = path(executable: executable)

  /// What is missing, and where it was looked for.
  static var absence: String {
    "the fio engine, \(name), is neither in \(folders(executable: executable).joined(separator: " nor in "))"
  }

  static let remedy = "install the package nvmepf-fio, or build it with make build"

  private static let executable =
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
}
