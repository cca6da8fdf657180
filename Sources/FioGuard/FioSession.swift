import CPlatform
import Glibc
import Platform

/// Makes fio run on a recorded endpoint: a directory, first in PATH, whose `fio` links to nvmepf, which then starts the
/// real fio with the engine preloaded. The directory alone identifies the endpoint, so the environment and the options
/// of the command that starts fio do not matter.
public struct FioSession: Sendable {
  /// The recording's directory.
  public let folder: String
  /// Environment variables for the engine.
  private let settings: [String: String]

  private static let settingsName = "fio-settings"
  private static let engineName = "fio-engine.so"
  private static let realSuffix = ".real"

  /// - Parameters:
  ///   - enginePath: the engine for fio; nil if it is not built.
  ///   - searchPath: the PATH in which to look for fio.
  public init(folder: String, enginePath: String?, settings: [String: String], searchPath: String) throws(FioProblem) {
    guard !folder.contains(where: { $0 == ":" || $0 == " " }) else {
      throw FioProblem("fio cannot load its engine from \(folder), whose name has a space or colon: free /dev/shm")
    }
    (self.folder, self.settings) = (folder, settings)
    let lines = settings.map { "\($0)=\($1)\n" }.sorted().joined()
    try FioSession.write(lines, to: "\(folder)/\(FioSession.settingsName)")
    guard let enginePath else { return }
    try FioSession.link(enginePath, "\(folder)/\(FioSession.engineName)")
    for path in searchPath.split(separator: ":").map({ Array("\($0)/fio".utf8) }) where Program(path: path) == .fio {
      _ = try addProgram(path, name: "fio")
      break
    }
  }

  /// A path that runs the fio at `path` on the endpoint.
  public func addProgram(_ path: [UInt8], name: String) throws(FioProblem) -> String {
    let own = "\(folder)/\(name)"
    guard let real = realpath(path.map { CChar(bitPattern: $0) } + [0], nil) else {
      throw FioProblem("\(path.text): \(String(cString: strerror(errno)))")
    }
    defer { free(real) }
    try FioSession.link(String(cString: real), own + FioSession.realSuffix)
    guard let executable = realpath("/proc/self/exe", nil) else { throw FioProblem("/proc is not mounted") }
    defer { free(executable) }
    try FioSession.link(String(cString: executable), own)
    return own
  }

  /// The engine, to be preloaded into fio.
  static func engine(_ folder: String) -> String { "\(folder)/\(engineName)" }

  /// Whether the recording still exists.
  public static func exists(_ folder: String) -> Bool { access("\(folder)/\(settingsName)", F_OK) == 0 }

  /// If this process was started as such a fio, execute the real one. Returns otherwise.
  public static func becomeFio() {
    let path = Array(String(cString: nvmepf_executed_path()).utf8)
    guard path.baseName.starts(with: Array("fio".utf8)), let slash = path.lastIndex(of: 0x2f) else { return }
    let folder = path[..<slash].map { $0 }.text
    guard access(path.text + realSuffix, X_OK) == 0, let target = realpath(path.text + realSuffix, nil) else { return }
    guard let settings = readText("\(folder)/\(settingsName)") else {
      fail("the recording that this fio belongs to has ended")
    }
    for line in settings.split(separator: "\n") {
      let parts = line.split(separator: "=", maxSplits: 1)
      if parts.count == 2 { setenv(String(parts[0]), String(parts[1]), 1) }
    }
    // A fio that crashes should end as it would without a Swift library in it.
    setenv("SWIFT_BACKTRACE", "enable=no", 0)
    let others = getenv("LD_PRELOAD").map { ":" + String(cString: $0) } ?? ""
    setenv("LD_PRELOAD", engine(folder) + others, 1)
    execv(target, CommandLine.unsafeArgv)
    fail("cannot run \(String(cString: target)): \(String(cString: strerror(errno)))")
  }

  static func fail(_ text: String) -> Never {
    say(text)
    exit(2)
  }

  /// Print one line, to standard error unless another descriptor is given.
  static func say(_ text: String, on descriptor: Int32 = STDERR_FILENO) {
    let line = Array("nvmepf: \(text)\n".utf8)
    _ = Glibc.write(descriptor, line, line.count)
  }

  private static func link(_ target: String, _ path: String) throws(FioProblem) {
    guard symlink(target, path) == 0 else {
      throw FioProblem("cannot write \(path): \(String(cString: strerror(errno)))")
    }
  }

  private static func write(_ text: String, to path: String) throws(FioProblem) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    defer { close(descriptor) }
    let bytes = Array(text.utf8)
    guard descriptor >= 0, Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
      throw FioProblem("cannot write \(path): \(String(cString: strerror(errno)))")
    }
  }
}

/// Why fio cannot run on the endpoint, with a remedy.
public struct FioProblem: Error, CustomStringConvertible, Sendable {
  public let description: String
  init(_ description: String) { self.description = description }
}
