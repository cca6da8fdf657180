import Glibc

/// The privileges needed for probes (capabilities(7)).
enum Capability: Int, CaseIterable {
  case sysAdmin = 21
  case syslog = 34
  case perfmon = 38
  case bpf = 39

  private var name: String {
    switch self {
    case .sysAdmin: "CAP_SYS_ADMIN"
    case .syslog: "CAP_SYSLOG"
    case .perfmon: "CAP_PERFMON"
    case .bpf: "CAP_BPF"
    }
  }

  /// The required ones that this process lacks; nil if none.
  static let lacking: String? = {
    guard let status = try? readText("/proc/self/status") else { return nil }
    return lacking(status)
  }()

  /// CAP_SYS_ADMIN implies CAP_BPF and CAP_PERFMON; without CAP_SYSLOG only the timing of work items is missing.
  static func lacking(_ status: String) -> String? {
    guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix("CapEff:") }),
      let word = line.split(whereSeparator: \.isWhitespace).last, let mask = UInt64(word, radix: 16)
    else { return nil }
    let missing = [bpf, perfmon, sysAdmin, syslog].filter { mask >> UInt64($0.rawValue) & 1 == 0 }
    return missing.contains(sysAdmin) ? missing.map(\.name).joined(separator: ", ") : nil
  }
}
