import Backends
import Device
import Foundation
import Host
import Replay
import Testing
import Trace

@testable import Service

@Suite("A served endpoint and its recording", .serialized)
struct ServedEndpointTests {
  private let folder: Folder
  private var trace: String { folder.path + "/a.nvpt" }

  init() throws { folder = try Folder() }

  private static let configuration = EndpointConfiguration(backend: .memory(bytes: 1 << 20), ioQueuesMax: 2)

  private func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

  private func contents(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }

  /// Record some reads.
  /// - Returns: whether the recording was given up for the trace before.
  private func record(commands: UInt64) throws -> Bool {
    let endpoint = try ServedEndpoint(Self.configuration, output: .trace(trace), logLevel: .critical)
    try endpoint.start()
    if commands > 0 {
      let controller = try HostController(path: endpoint.socketPath, recording: endpoint.hostRecording)
      _ = try Workload(pattern: .read, blockBytes: 4096, depth: 1, length: .commands(commands)).run(on: controller)
      try controller.shutDown()
    }
    try endpoint.finish()
    #expect(endpoint.commands! >= commands)
    return endpoint.isDiscarded
  }

  @Test("the previous trace is kept as .old after the first command, and left alone without one")
  func keepsPrevious() throws {
    #expect(try !record(commands: 5))
    let before = try contents(trace)
    #expect(!exists(trace + ".old"))
    #expect(try record(commands: 0))
    #expect(try contents(trace) == before)
    #expect(!exists(trace + ".old") && !exists(trace + ".part"))
    #expect(try !record(commands: 5))
    #expect(try contents(trace + ".old") == before)
    #expect(try contents(trace) != before && !exists(trace + ".part"))
  }

  @Test("is written beside the previous trace until the first command")
  func growsBeside() throws {
    _ = try record(commands: 1)
    let before = try contents(trace)
    let endpoint = try ServedEndpoint(Self.configuration, output: .trace(trace), logLevel: .critical)
    try endpoint.start()
    #expect(exists(trace + ".part"))
    #expect(try contents(trace) == before)
    try endpoint.finish()
    #expect(!exists(trace + ".part"))
  }

  @Test("an endpoint that cannot be served keeps the previous trace and leaves no directory")
  func failsToStart() throws {
    _ = try record(commands: 1)
    let before = try contents(trace)
    var twice = Self.configuration
    twice.namespaces.append(twice.namespaces[0])
    let error = #expect(throws: EndpointError.self) { try ServedEndpoint(twice, output: .trace(trace)) }
    #expect(error?.description == "namespace 1 is configured twice")
    #expect(try contents(trace) == before)
    #expect(!exists(trace + ".part") && !exists(trace + ".rings"))
  }

  @Test("the environment names rings only if a trace is recorded")
  func environment() throws {
    let plain = try ServedEndpoint(Self.configuration, logLevel: .critical)
    #expect(plain.environment == ["NVMEPF_SOCKET": plain.socketPath])
    #expect(plain.hostRecording == nil && plain.commands == nil)
    let path = folder.path + "/socket"
    let named = try ServedEndpoint(
      Self.configuration, socketPath: path, output: .trace(trace), logLevel: .critical)
    #expect(named.environment["NVMEPF_SOCKET"] == path)
    #expect(named.environment["NVMEPF_RINGS"] == named.folder && named.environment["NVMEPF_TRACE"] != nil)
    try plain.finish()
    try named.finish()
  }

  @Test("the trace contains its origin")
  func metadata() throws {
    let endpoint = try ServedEndpoint(
      Self.configuration, output: .trace(trace), command: ["fio", "--name=a"], options: ["nvmepf", "record"],
      logLevel: .critical)
    try endpoint.finish()
    let metadata = try TraceReader(path: trace).header.metadata
    func value(_ key: String) -> String? { metadata.first { $0.key == key }?.value }
    #expect(value("version") == productVersion && value("command") == "fio --name=a")
    #expect(value("namespace 1") == "memory:1048576")
    #expect(value("options") == "nvmepf record" && value("commit") == productCommit)
    for key in ["host", "kernel"] { #expect(value(key)?.isEmpty == false, "\(key)") }
    #expect(value("cpu") == processorModel())
    #expect(Set(metadata.map(\.key)).count == metadata.count, "\(metadata)")
  }

  // MARK: The built-in workload

  private func jobs(_ count: Int, block: Int = 4096, depth: Int = 1) -> Jobs {
    Jobs(
      Workload(pattern: .randread, blockBytes: block, depth: depth, length: .commands(20)), count: count,
      timeoutNs: 30_000_000_000)
  }

  @Test("runs its jobs on the endpoint, each command recorded")
  func runsJobs() throws {
    let endpoint = try ServedEndpoint(Self.configuration, output: .trace(trace), logLevel: .critical)
    try endpoint.start()
    let (status, failure) = endpoint.record { watch in jobs(2).run(on: endpoint, watch) }
    #expect(status == 0 && failure == nil)
    let reader = try TraceReader(path: trace)
    #expect(reader.isComplete && reader.totals.commands >= 40)
    let result = try ReplayResult(replaying: reader)
    #expect(result.divergence == nil && result.commands >= 40)
  }

  @Test("a workload that does not fit the endpoint is refused with the option's name")
  func checksWorkload() throws {
    func refusal(_ jobs: Jobs) -> String? {
      do { try jobs.check(Self.configuration) } catch { return "\(error)" }
      return nil
    }
    #expect(refusal(jobs(2)) == nil)
    #expect(refusal(jobs(3)) == "--numjobs 3: each job needs a queue, and the endpoint has 2")
    let entries = Int(Self.configuration.subsystem.queueEntriesMax)
    #expect(refusal(jobs(1, depth: entries - 1)) == nil)
    #expect(
      refusal(jobs(1, depth: entries)) == "--iodepth \(entries): a queue has room for \(entries - 1) commands")
    for bytes in [0, 511, 1 << 20] {
      #expect(
        refusal(jobs(1, block: bytes))
          == "--bs \(bytes) must be a multiple of 512 bytes, at most 524288 (--mdts)")
    }
  }

  @Test("the trace is closed even if the recorded command fails")
  func closesAfterFailure() throws {
    let endpoint = try ServedEndpoint(Self.configuration, output: .trace(trace), logLevel: .critical)
    try endpoint.start()
    let (_, failure) = endpoint.record { _ in throw Failure(description: "no", status: 7) }
    #expect((failure as? Failure)?.description == "no" && (failure as? Failure)?.status == 7)
    #expect(try TraceReader(path: trace).isComplete)
  }
}
