import Platform

/// The privileges needed for probes (capabilities(7)).
enum Capability {
  private static let needed = [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_SYS_ADMIN", 21), ("CAP_SYSLOG", 34)]

  /// The required ones that this process lacks; nil if none.
  static let lacking: String? = readText("/proc/self/status").flatMap { lacking($0) }

  /// CAP_SYS_ADMIN implies CAP_BPF and CAP_PERFMON; without CAP_SYSLOG only the timing of work items is missing.
  static func lacking(_ status: String) -> String? {
    guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix("CapEff:") }),
      let word = line.split(whereSeparator: \.isWhitespace).last, let mask = UInt64(word, radix: 16)
    else { return nil }
    let missing = needed.filter { mask >> UInt64($0.1) & 1 == 0 }.map(\.0)
    return missing.contains("CAP_SYS_ADMIN") ? missing.joined(separator: ", ") : nil
  }
}
