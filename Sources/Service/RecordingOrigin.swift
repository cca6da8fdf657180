import Foundation
import Platform
import Probe

/// Where and how a trace is recorded, for those who compare it with another.
enum RecordingOrigin {
  /// As metadata of a trace, without what is unknown.
  /// - Parameters:
  ///   - command: what is recorded.
  ///   - options: nvmepf's own command line; empty if `command` is that.
  static func notes(command: [String], options: [String]) -> [(String, String)] {
    [
      ("version", productVersion), ("commit", productCommit ?? ""), ("host", hostName()),
      ("kernel", kernelRelease()), ("cpu", processorModel() ?? ""), ("command", command.joined(separator: " ")),
      ("options", options.joined(separator: " ")),
    ].filter { !$0.1.isEmpty }
  }
}

/// As printed by `uname -n`.
private func hostName() -> String {
  var name = utsname()
  uname(&name)
  return withUnsafeBytes(of: &name.nodename) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

/// The model of this machine's processor, or of its board; nil if the kernel does not say.
public func processorModel() -> String? {
  let lines = (readText("/proc/cpuinfo") ?? "").split(separator: "\n")
  let line = lines.first { $0.hasPrefix("model name") }
  let model = line?.split(separator: ":").last.map(String.init) ?? readText("/proc/device-tree/model")
  let name = model?.trimmingCharacters(in: .whitespaces.union(.controlCharacters)) ?? ""
  return name.isEmpty ? nil : name
}
