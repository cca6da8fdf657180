import Backends
import Events
import Glibc
import NVMe
import Synchronization
import Testing
import Trace

@testable import Host

@Suite("A host that waits", .serialized)
struct WaitingTests {
  /// A device that takes so long for a command that it is as good as lost.
  private static let silent = BackendConfiguration.null(bytes: 1 << 30, serviceTime: .constant(ns: 3_000_000_000_000))

  private static func workload(_ length: Workload.Length, depth: Int = 2) -> Workload {
    Workload(pattern: .read, blockBytes: 4096, depth: depth, length: length)
  }

  /// Why a workload was given up that has so many commands outstanding, and no time.
  private static func failure(depth: Int) throws -> HostError? {
    let served = try Served(silent)
    let controller = try HostController(path: served.path)
    let buffer = try controller.share(depth * 4096)
    let queue = try controller.makeQueuePair(depth: depth)
    controller.timeoutNs = 1
    do throws(HostError) {
      _ = try workload(.commands(UInt64(depth)), depth: depth).run(on: controller, queue, buffer)
      return nil
    } catch { return error }
  }

  @Test("gives up commands that the device does not complete, and names them")
  func namesLostCommands() throws {
    let error = try Self.failure(depth: 2)
    #expect(error?.kind == .late)
    #expect(
      error?.description
        == "the device does not complete queue 1: command 0 (read, LBA 0, 0 s); command 1 (read, LBA 8, 0 s)")
  }

  @Test("names eight of many commands and counts the rest")
  func countsLostCommands() throws {
    let error = try Self.failure(depth: 40)
    #expect(error?.description.hasSuffix("command 7 (read, LBA 56, 0 s); and 32 more") == true)
  }

  @Test("after a stop, reports what it waits for and waits for it", arguments: [false, true])
  func stops(sleeps: Bool) throws {
    let served = try Served(Self.silent)
    let said = Mutex<[String]>([])
    let stop = StopFlag { what in said.withLock { $0.append(what) } }
    let controller = try HostController(path: served.path, stop: stop)
    var queue = try controller.makeQueuePair(depth: 1, sleeps: sleeps)
    let isSubmitted = queue.submit(SubmissionEntry(opcode: IOOpcode.flush.rawValue, cid: CommandID(0), nsid: 1))
    queue.ring()
    stop.stop()
    while said.withLock(\.isEmpty) { try queue.wait(now: HostController.nowNs(), on: controller) }
    #expect(said.withLock { $0.first?.hasPrefix("queue 1: command 0 (flush, ") } == true)
    controller.timeoutNs = 1
    var error: HostError?
    while error == nil {
      do throws(HostError) { try queue.wait(now: HostController.nowNs(), on: controller) } catch let caught {
        error = caught
      }
    }
    #expect(
      isSubmitted && error?.description.hasPrefix("the device does not complete queue 1: command 0 (flush, ") == true)
    #expect(said.withLock(\.count) == 1)
  }

  @Test("sleeps until the interrupt of its queue, and completes every command", arguments: [1, 8])
  func sleeps(depth: Int) throws {
    let served = try Served(.null(bytes: 1 << 30, serviceTime: .constant(ns: 200_000)))
    let controller = try HostController(path: served.path)
    let result = try Self.workload(.commands(300), depth: depth).run(on: controller, sleeps: true)
    #expect(result.commands == 300 && result.errors == 0)
  }

  @Test("records that it slept, and for how long")
  func recordsRest() throws {
    let folder = "/tmp/nvmepf-rest-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
    mkdir(folder, 0o700)
    defer { rmdir(folder) }
    let served = try Served(.null(bytes: 1 << 30, serviceTime: .constant(ns: 1_000_000)))
    let controller = try HostController(
      path: served.path, recording: HostRecording(directory: folder, traceID: .random()))
    var queue = try controller.makeQueuePair(depth: 1, sleeps: true)
    let names = try #require(files(folder))
    try #require(names.count == 1)
    let path = "\(folder)/\(names[0])"
    defer { unlink(path) }
    var consumer = RingConsumer(try Ring(opening: path))
    let isSubmitted = queue.submit(SubmissionEntry(opcode: IOOpcode.flush.rawValue, cid: CommandID(0), nsid: 1))
    queue.ring()
    while queue.reap(1, { _, _ in }) == 0 { try queue.wait(now: HostController.nowNs(), on: controller) }
    let records = try consumer.available()
    let rest = records.filter { $0.is(.rest) }.map { Event.Rest($0) }
    #expect(isSubmitted && rest.count == 1)
    #expect(rest.first?.qid == 1 && rest.first?.flags == .slept && (rest.first?.span ?? 0) > 0)
    #expect(
      records.map(\.kind) == [EventKind.submit, .doorbell, .rest, .completion, .doorbell].map(\.rawValue))
    consumer.free(records.count)
    try controller.delete(queue)
  }

  private func files(_ folder: String) -> [String]? {
    guard let stream = opendir(folder) else { return nil }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names
  }

  @Test("polls if there are cores for all threads, otherwise sleeps")
  func choosesByCores() {
    let cores = sysconf(Int32(_SC_NPROCESSORS_ONLN))
    #expect(HostController.needsSleep(threads: cores, hasEngine: true))
    #expect(HostController.needsSleep(threads: cores + 1))
  }
}
