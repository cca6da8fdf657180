import CBPF
import Foundation
import Glibc
import Synchronization

/// libbpf's messages: errors are kept for an error's text; all of them go to standard error if NVMEPF_PROBE_LOG is set,
/// for developers of the probes.
enum LibraryLog {
  /// The errors since `begin`.
  private static let complaints = Mutex<[String]>([])

  static func begin() { complaints.withLock { $0 = [] } }

  /// The first line of the first error.
  static var first: String? {
    complaints.withLock { $0.first?.split(whereSeparator: \.isNewline).first.map(String.init) }
  }

  /// The program that the kernel refused, and the reason.
  static var refusal: Refusal? { complaints.withLock { Refusal($0) } }

  static func listen() { nvmepf_listen_to_libbpf(ingest) }

  private static let ingest: @convention(c) (libbpf_print_level, UnsafePointer<CChar>?) -> Void = { level, text in
    guard let text else { return }
    let message = String(cString: text)
    if getenv("NVMEPF_PROBE_LOG") != nil { _ = write(STDERR_FILENO, message, message.utf8.count) }
    if level == LIBBPF_WARN { complaints.withLock { $0.append(message) } }
  }
}

/// A program that the kernel refuses.
struct Refusal: Equatable {
  let program: String
  let why: String

  init?(_ complaints: [String]) {
    // "libbpf: prog 'NAME': ...", the last one: loading stops with it.
    let mark = "libbpf: prog '"
    guard let last = complaints.last(where: { $0.hasPrefix(mark) }),
      let name = last.dropFirst(mark.count).split(separator: "'").first.map(String.init)
    else { return nil }
    let own = complaints.filter { $0.hasPrefix(mark + name + "'") }
    // The verifier's log ends with its reason and a line of statistics.
    let lines = own.first { $0.contains("BEGIN PROG LOAD LOG") }?.split(whereSeparator: \.isNewline) ?? []
    let reason = lines.last {
      !$0.hasPrefix("processed ") && !$0.hasPrefix("verification time") && !$0.hasPrefix("stack depth")
        && !$0.contains("PROG LOAD LOG")
    }
    program = name
    why = String((reason ?? Substring(own[0].dropFirst(mark.count + name.utf8.count + 3))).prefix(200))
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
