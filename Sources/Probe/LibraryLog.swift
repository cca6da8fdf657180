import CBPF
import Glibc
import Synchronization

/// What libbpf has to say: its complaints are kept for an error's text; all of it goes to standard error where
/// NVMEPF_PROBE_LOG is set, for whoever mends the probes.
enum LibraryLog {
  /// The complaints since `begin`.
  private static let complaints = Mutex<[String]>([])

  static func begin() { complaints.withLock { $0 = [] } }

  /// The first line of the first complaint.
  static var first: String? {
    complaints.withLock { $0.first?.split(whereSeparator: \.isNewline).first.map(String.init) }
  }

  /// The program that the kernel refused, and its last word about it.
  static var refusal: Refusal? { complaints.withLock { Refusal($0) } }

  /// The verifier may have a lot to say, and its reason comes last. What is not written takes no memory.
  private static let textBytes = 16 << 20

  static let take: libbpf_print_fn_t = { level, format, arguments in
    guard let format, let arguments, let text = malloc(LibraryLog.textBytes) else { return 0 }
    defer { free(text) }
    let bytes = text.assumingMemoryBound(to: CChar.self)
    vsnprintf(bytes, LibraryLog.textBytes, format, arguments)
    let message = String(cString: bytes)
    if getenv("NVMEPF_PROBE_LOG") != nil { _ = write(STDERR_FILENO, message, message.utf8.count) }
    if level == LIBBPF_WARN { complaints.withLock { $0.append(message) } }
    return 0
  }
}

/// A program that the kernel does not take.
struct Refusal: Equatable {
  let program: String
  let why: String

  init?(_ complaints: [String]) {
    // "libbpf: prog 'NAME': ...", of the last one: loading stops with it.
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
      .trimmingSuffix(while: \.isWhitespace)
  }
}

extension String {
  fileprivate func trimmingSuffix(while predicate: (Character) -> Bool) -> String {
    var text = self[...]
    while let last = text.last, predicate(last) { text.removeLast() }
    return String(text)
  }
}
