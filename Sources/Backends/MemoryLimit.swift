import Platform

/// The memory that this process may still use under its control groups (cgroups(7), either version).
struct MemoryLimit {
  /// Directory of the group with the least memory left.
  let group: String
  let availableBytes: UInt64

  /// - Returns: nil if no group limits memory.
  static func tightest(root: String = "/sys/fs/cgroup", membership: String = "/proc/self/cgroup") -> MemoryLimit? {
    var tightest: MemoryLimit?
    for line in readText(membership)?.split(separator: "\n") ?? [] {
      // Hierarchy, controllers, path; version 2 is hierarchy 0 without controllers.
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      let isVersion2 = fields[0] == "0" && fields[1].isEmpty
      guard isVersion2 || fields[1].split(separator: ",").contains("memory") else { continue }
      for group in groups(isVersion2 ? root : "\(root)/memory", String(fields[2])) {
        guard let limit = MemoryLimit(group, isVersion2) else { continue }
        if limit.availableBytes < tightest?.availableBytes ?? .max { tightest = limit }
      }
    }
    return tightest
  }

  private init?(_ group: String, _ isVersion2: Bool) {
    func number(_ file: String) -> UInt64? {
      guard let line = readText("\(group)/\(file)")?.split(separator: "\n").first else { return nil }
      return UInt64(line)
    }
    guard let limit = number(isVersion2 ? "memory.max" : "memory.limit_in_bytes"),
      let used = number(isVersion2 ? "memory.current" : "memory.usage_in_bytes")
    else { return nil }
    self.group = group
    // The kernel reclaims cached files before memory runs out.
    let prefix = isVersion2 ? "" : "total_"
    let statistics = readText("\(group)/memory.stat") ?? ""
    var cached: UInt64 = 0
    for key in ["inactive_file", "active_file"] {
      let (sum, overflow) = cached.addingReportingOverflow(MemoryLimit.value(of: prefix + key, in: statistics) ?? 0)
      cached = overflow ? .max : sum
    }
    let needed = used - min(cached, used)
    availableBytes = limit - min(needed, limit)
  }

  /// The directories of the group and of its parents, as far as this mount shows them.
  private static func groups(_ base: String, _ path: String) -> [String] {
    let names = path.split(separator: "/").filter { $0 != ".." }
    var folders = [base]
    for name in names { folders.append("\(folders.last!)/\(name)") }
    return folders
  }

  /// The number after the word `key` at the beginning of a line.
  static func value(of key: String, in text: String) -> UInt64? {
    let words = text.split(separator: "\n").lazy.map { $0.split(separator: " ") }.first { $0.first == key[...] }
    return words?.dropFirst().first.flatMap { UInt64($0) }
  }
}
