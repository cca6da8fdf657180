import Device
import Events
import Faults
import Foundation
import Host
import Logging
import NVMe
import Platform
import Replay
import Text
import Trace

/// A driver under one fault after the other, with a trace of each.
public struct Torment {
  /// The driver that is tried.
  public enum Driver {
    /// The built-in workload, which aborts and resets.
    case builtIn(Workload, timeoutNs: UInt64)
    /// A command, started anew for each fault, as by `record`.
    case command(RecordedCommand, timeout: Double)
    /// A client of this socket, which must connect for each fault, for so many seconds after its first command.
    case client(socket: String, seconds: Double)
  }

  /// What happened under one fault.
  public struct Run: Sendable {
    public let fault: Fault
    /// Path of its trace; nil if no command came.
    public let trace: String?
    public let tally: Tally
    /// What the driver noticed; nil for nothing.
    public let notes: String?
    /// It could not cope with the fault.
    public let gaveUp: Bool
    /// Nil without a trace; "identical", or how the replay diverged.
    public let replay: String?

    public var isIdentical: Bool { replay == "identical" }
  }

  /// What the controller saw of a driver.
  public struct Tally: Equatable, Sendable {
    public var injected: UInt64 = 0
    /// I/O commands that were fetched.
    public var commands: UInt64 = 0
    /// I/O commands that completed with an error.
    public var errors: UInt64 = 0
    public var aborts: UInt64 = 0
    /// Resets after the first command, by the driver or the link.
    public var resets: UInt64 = 0
  }

  private let configuration: EndpointConfiguration
  private let folder: String
  private let driver: Driver

  /// - Parameters:
  ///   - configuration: the endpoint, without faults.
  ///   - folder: for the traces; created if it does not exist.
  public init(_ configuration: EndpointConfiguration, folder: String, driver: Driver) throws {
    (self.configuration, self.folder, self.driver) = (configuration, folder, driver)
    do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) } catch {
      throw Failure(description: "cannot create the folder \(folder): \(error.localizedDescription)")
    }
  }

  /// Serve the endpoint with one fault until the driver is done.
  /// - Parameter number: of the fault, for the name of its trace.
  public func run(_ fault: Fault, number: Int, seed: UInt64) throws -> Run {
    var configuration = configuration
    configuration.faults = FaultPlan([fault], seed: seed)
    let digits = number < 10 ? "0\(number)" : "\(number)"
    let path = "\(folder)/\(digits)-\(fault.kind.name).nvpt"
    var socket: String?
    if case .client(let path, _) = driver { socket = path }
    let served = try ServedEndpoint(
      configuration, socketPath: socket, output: .trace(path), command: CommandLine.arguments, logLevel: .critical)
    try served.start()
    var outcome: (notes: String?, gaveUp: Bool) = (nil, false)
    let (_, failure) = served.record { watch in
      outcome = try drive(served, watch, fault, keepsData: configuration.keepsData)
      return 0
    }
    if let failure { throw failure }
    guard !served.isDiscarded, FileManager.default.fileExists(atPath: path) else {
      return Run(
        fault: fault, trace: nil, tally: Tally(), notes: outcome.notes ?? "no command came", gaveUp: true, replay: nil)
    }
    let reader = try TraceReader(path: path)
    let result = try ReplayResult(replaying: reader)
    let replay = result.divergence.map { "diverged at event \($0.event)" } ?? "identical"
    return Run(
      fault: fault, trace: path, tally: try Tally(reader), notes: outcome.notes, gaveUp: outcome.gaveUp,
      replay: replay)
  }

  /// - Returns: what the driver noticed, nil for nothing, and whether it gave up.
  private func drive(_ served: ServedEndpoint, _ watch: Watch, _ fault: Fault, keepsData: Bool) throws -> (
    notes: String?, gaveUp: Bool
  ) {
    switch driver {
    case .builtIn(let workload, let timeoutNs):
      let jobs = Jobs(workload, count: 1, timeoutNs: timeoutNs, usesInterrupts: true, complains: false)
      _ = jobs.run(on: served, watch)
      let all = jobs.problems + jobs.troubles
      return (all.isEmpty ? nil : all.joined(separator: "; "), !jobs.problems.isEmpty)
    case .command(let command, let timeout):
      let status = try command.start(served, keepsData: keepsData, timeout: timeout).wait(watch)
      return (status == 0 ? nil : "exit status \(status)", status != 0)
    case .client(let socket, let seconds):
      tell("nvmepf: \(fault): waiting for a client of \(socket)")
      while (served.commands ?? 0) == 0 {
        if let arrival = OwnProcess.nextArrival(withinMs: 100), arrival.isEnding {
          OwnProcess.endAtNextSignal()
          return ("interrupted", true)
        }
      }
      OwnProcess.wait(seconds: seconds, watch)
      return (nil, false)
    }
  }
}

extension Torment.Tally {
  /// Count what the engine's stream of a trace shows.
  init(_ reader: TraceReader) throws(TraceError) {
    self.init()
    var events = try MergedEvents(reader)
    var isEnabled = false
    while let event = try events.next() {
      guard event.id.source == .engine else { continue }
      let record = event.record.pointee
      switch record.event {
      case .fault: injected += Event.Fault(record).ended == 0 ? 1 : 0
      case .fetch: add(Event.Fetch(record), event.record.fixedTail(as: SubmissionEntry.self))
      case .completion:
        let completion = Event.Completion(record)
        if completion.sqid != 0, completion.status != 0 { errors += 1 }
      case .registerWrite:
        let write = Event.RegisterWrite(record)
        guard write.offset == Register.cc else { continue }
        if isEnabled, write.value & 1 == 0, commands > 0 { resets += 1 }
        isEnabled = write.value & 1 != 0
      case .reset:
        if isEnabled, commands > 0, Event.Reset(record).reason != .hostGone { resets += 1 }
        isEnabled = false
      default: continue
      }
    }
  }

  private mutating func add(_ fetch: Event.Fetch, _ sqe: SubmissionEntry?) {
    guard !fetch.flags.contains(.failed), let sqe else { return }
    if fetch.qid != 0 { commands += 1 }
    if fetch.qid == 0, sqe.opcode == AdminOpcode.abort.rawValue { aborts += 1 }
  }
}
