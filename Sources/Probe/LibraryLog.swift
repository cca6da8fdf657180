import CBPF
import Glibc
import Synchronization

/// What libbpf has to say: its first complaint is kept for an error's text; all of it goes to standard error where
/// NVMEPF_PROBE_LOG is set, for whoever mends the probes.
enum LibraryLog {
  static let first = Mutex<String?>(nil)

  static let take: libbpf_print_fn_t = { level, format, arguments in
    var text = [CChar](repeating: 0, count: 65_536)
    guard let format, let arguments else { return 0 }
    vsnprintf(&text, text.count, format, arguments)
    let message = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    if getenv("NVMEPF_PROBE_LOG") != nil { _ = write(STDERR_FILENO, message, message.utf8.count) }
    if level == LIBBPF_WARN {
      first.withLock { first in
        first = first ?? message.split(whereSeparator: \.isNewline).first.map(String.init)
      }
    }
    return 0
  }
}
