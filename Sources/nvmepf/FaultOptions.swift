import ArgumentParser
import Device
import Faults
import Foundation
import Service
import Text

/// Faults to inject, common to all verbs that serve an endpoint.
struct FaultOptions: ParsableArguments {
  @Option(
    name: .customLong("inject"),
    help: ArgumentHelp(
      "Inject this fault, as in drop-completion,every=100 or delay=execute:2us; nvmepf inject --list shows all; may be repeated",
      valueName: "spec"),
    completion: .list(Fault.Kind.allCases.map(\.name)), transform: { try FaultOptions.fault($0) })
  var specs: [Fault] = []

  @Option(
    name: .customLong("inject-file"),
    help: ArgumentHelp("Inject the faults of this file: one SPEC a line, # begins a comment", valueName: "file"),
    completion: .file())
  var file: String?

  @Option(
    name: .customLong("inject-seed"),
    help: ArgumentHelp("Seed of faults with a rate (default: random, and printed)", valueName: "number"))
  var seed: UInt64?

  private static func fault(_ text: String) throws -> Fault {
    do throws(FaultError) { return try Fault(text) } catch { throw ValidationError(error.description) }
  }

  func validate() throws {
    try require(specs.count <= Fault.countMax, "--inject can be given at most \(Fault.countMax) times")
    try require(seed == nil || isGiven, "--inject-seed needs --inject or --inject-file")
  }

  var isGiven: Bool { !specs.isEmpty || file != nil }

  /// - Parameter keepsData: the backend has data to transfer.
  func plan(keepsData: Bool) throws -> FaultPlan {
    let faults = specs + (try file.map(FaultOptions.read) ?? [])
    guard faults.count <= Fault.countMax else {
      throw Failure(description: "at most \(Fault.countMax) faults can be injected")
    }
    if !keepsData, let fault = faults.first(where: \.kind.needsData) {
      throw Failure(description: "\(fault.kind.name) needs data to transfer: use --backend memory, a file or a device")
    }
    var plan = FaultPlan(faults, seed: seed ?? 1)
    if seed == nil, plan.isRandom {
      plan.seed = UInt64.random(in: 1...999_999)
      tell("nvmepf: --inject-seed \(plan.seed) repeats this choice of faults")
    }
    return plan
  }

  /// Tell how often each kind of fault was injected.
  func tellCounts(_ served: ServedEndpoint) {
    guard isGiven else { return }
    let counts = Fault.Kind.allCases.map { (kind: $0, count: served.function.faultCounts[$0]) }.filter { $0.count > 0 }
    let text = counts.map { "\(Quantity.count($0.count)) \($0.kind.name)" }.joined(separator: ", ")
    tell("nvmepf: injected \(text.isEmpty ? "no fault: nothing fulfilled the conditions" : text)")
  }

  private static let fileBytesMax = 1 << 20

  private static func read(_ path: String) throws -> [Fault] {
    guard let handle = FileHandle(forReadingAtPath: path),
      let bytes = try? handle.read(upToCount: fileBytesMax + 1) ?? Data()
    else { throw Failure(description: "\(path) cannot be read") }
    guard bytes.count <= fileBytesMax else { throw Failure(description: "\(path) is larger than 1 MiB") }
    do throws(FaultError) { return try Fault.parse(file: String(decoding: bytes, as: UTF8.self)) } catch {
      throw Failure(description: "\(path): \(error.description)")
    }
  }
}
