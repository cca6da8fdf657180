import Foundation
import Testing

@testable import Backends

@Suite("Memory limits of control groups")
struct MemoryLimitTests {
  private let root = FileManager.default.temporaryDirectory.appendingPathComponent("nvmepf-test-\(UUID())")

  private func write(_ path: String, _ text: String) throws {
    let file = root.appendingPathComponent(path)
    try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(text.utf8).write(to: file)
  }

  private var tightest: MemoryLimit? {
    MemoryLimit.tightest(root: root.path, membership: root.appendingPathComponent("membership").path)
  }

  @Test("version 2: the smallest limit of the group and its ancestors, minus memory in use that is not cache")
  func version2() throws {
    defer { try? FileManager.default.removeItem(at: root) }
    try write("membership", "0::/service/worker\n")
    #expect(tightest == nil)
    try write("service/worker/memory.max", "max\n")
    try write("service/worker/memory.current", "100\n")
    #expect(tightest == nil)
    try write("service/memory.max", "1000\n")
    try write("service/memory.current", "700\n")
    try write("service/memory.stat", "anon 400\ninactive_file 200\nactive_file 100\n")
    #expect(tightest?.availableBytes == 600)
    #expect(tightest?.group.hasSuffix("/service") == true)
    try write("service/worker/memory.max", "150\n")
    #expect(tightest?.availableBytes == 50)
    try write("service/worker/memory.current", "151\n")
    #expect(tightest?.availableBytes == 0)
    // More is cached than there can be.
    try write("service/worker/memory.stat", "inactive_file 18446744073709551615\nactive_file 1\n")
    #expect(tightest?.availableBytes == 150)
  }

  @Test("version 1: in the memory controller's own hierarchy")
  func version1() throws {
    defer { try? FileManager.default.removeItem(at: root) }
    try write("membership", "9:cpu:/c\n4:memory:/m\n0::/\n")
    try write("memory/m/memory.limit_in_bytes", "1000\n")
    try write("memory/m/memory.usage_in_bytes", "500\n")
    try write("memory/m/memory.stat", "inactive_file 1\ntotal_inactive_file 100\ntotal_active_file 0\n")
    #expect(tightest?.availableBytes == 600)
  }
}
