import Foundation

/// Runs other programs for their output.
enum OtherProgram {
  /// What it prints, without blanks around it; nil where it cannot be run or fails.
  /// - Parameters:
  ///   - variables: added to this process's environment.
  ///   - isQuiet: discard its standard error.
  static func output(
    _ path: String, _ arguments: [String], variables: [String: String] = [:], isQuiet: Bool = true
  ) -> String? {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(variables) { $1 }
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardInput = FileHandle.nullDevice
    if isQuiet { process.standardError = FileHandle.nullDevice }
    guard (try? process.run()) != nil else { return nil }
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { return nil }
    return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
