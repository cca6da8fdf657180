import Analysis
@_spi(Places) import Events
import Foundation
import NVMe
import Replay
import Report
import Testing
import Trace

@testable import Editing

@Suite("Anonymized") struct AnonymizedTests {
  let scratch = Scratch()

  private func anonymize(_ path: String, to name: String = "anonymous.nvpt", keepsBlocks: Bool = false) throws
    -> EditedTrace
  {
    try Anonymized(EditInput(try TraceReader(path: path)), keepsBlocks: keepsBlocks).write(to: scratch(name))
  }

  /// All bytes of the events, and of the notes.
  private func contents(_ path: String) throws -> Data {
    var bytes = Data()
    for event in try events(of: path) {
      withUnsafeBytes(of: event.record) { bytes.append(contentsOf: $0) }
      bytes.append(contentsOf: event.tail)
    }
    for (key, value) in try TraceReader(path: path).header.metadata { bytes.append(Data("\(key)=\(value) ".utf8)) }
    return bytes
  }

  private func report(_ path: String) throws -> String {
    let reader = try TraceReader(path: path)
    return Report.json(Summary(ofReadable: reader), [])
  }

  @Test("No planted name, number, block or byte of data is left", .timeLimit(.minutes(2)))
  func planted() throws {
    let path = scratch("planted.nvpt")
    try PlantedTrace.record(to: path)
    let before = try contents(path)
    for (name, pattern) in PlantedTrace.patterns where !name.hasSuffix("swapped") {
      try #require(before.range(of: Data(pattern)) != nil, "\(name) was not planted")
    }
    let edited = try anonymize(path)
    #expect(edited.replay?.divergence == nil)
    let (after, file) = (
      try contents(scratch("anonymous.nvpt")), try Data(contentsOf: URL(fileURLWithPath: edited.path))
    )
    #expect(try TraceReader(path: edited.path).header.metadata.allSatisfy { $0.key != "host" && $0.key != "command" })
    for (name, pattern) in PlantedTrace.patterns {
      #expect(after.range(of: Data(pattern)) == nil, "\(name) is still there")
      #expect(file.range(of: Data(pattern)) == nil, "\(name) is still in the file")
    }
    let statuses = [path, edited.path].map { path in
      try? events(of: path).filter { $0.record.is(.completion) }.map(\.record)
    }
    #expect(statuses[0] == statuses[1] && statuses[0]?.isEmpty == false)
    #expect(try report(path) == report(edited.path))
  }

  @Test("Golden traces replay and report as before", arguments: goldenTraces)
  func golden(_ path: String) throws {
    let edited = try anonymize(path)
    #expect(edited.replay?.divergence == nil)
    #expect(try report(path) == report(edited.path))
    let (before, after) = (try events(of: path), try events(of: edited.path))
    #expect(before.map(\.record.time) == after.map(\.record.time))
    #expect(before.map(\.record.kind) == after.map(\.record.kind))
    #expect(try TraceReader(path: edited.path).header.metadata.allSatisfy { $0.key != "command" && $0.key != "host" })
  }

  @Test("Blocks keep their order, distance in a range, and side of the namespace's end", arguments: [false, true])
  func blocks(keepsBlocks: Bool) throws {
    try simulate(scratch("run.nvpt"), seed: 21, commands: 2000)
    let edited = try anonymize(scratch("run.nvpt"), keepsBlocks: keepsBlocks)
    func requests(_ path: String) throws -> [(slba: UInt64, blocks: UInt32)] {
      try events(of: path).filter { $0.record.is(.executeBegin) && Event.ExecuteBegin($0.record).blocks > 0 }.map {
        (Event.ExecuteBegin($0.record).slba, Event.ExecuteBegin($0.record).blocks)
      }
    }
    let (before, after) = (try requests(scratch("run.nvpt")), try requests(edited.path))
    try #require(before.count == after.count && before.count > 1000)
    if keepsBlocks {
      #expect(before.map(\.slba) == after.map(\.slba))
    } else {
      #expect(before.map(\.slba) != after.map(\.slba))
    }
    let order = before.indices.sorted { before[$0].slba < before[$1].slba }
    for (one, next) in zip(order, order.dropFirst()) {
      let distance = before[next].slba - before[one].slba
      if distance <= UInt64(before[one].blocks) {
        #expect(after[next].slba - after[one].slba == distance)
      } else {
        #expect(after[next].slba >= after[one].slba + UInt64(after[one].blocks))
      }
    }
  }

  @Test(
    "A divergence stays the same",
    arguments: [EventKind.completion, .write, .checkpoint, .executeBegin, .map, .interrupt])
  func divergence(_ kind: EventKind) throws {
    let path = try #require(engineTraces.first { $0.hasSuffix("commands.nvpt") })
    try simulate(scratch("run.nvpt"), seed: 22, commands: 2000)
    try mutate(kind == .checkpoint ? scratch("run.nvpt") : path, to: scratch("wrong.nvpt"), kind) { event in
      switch kind {
      case .completion: event.record.bHigh ^= 1 << 20
      case .write: event.tail[9] ^= 1
      case .checkpoint: event.tail[150] ^= 1
      case .executeBegin: event.record.bLow += 1
      case .map: event.record.aLow += 1
      default: event.record.aLow += 1
      }
    }
    let whole = try #require(try ReplayResult(replaying: TraceReader(path: scratch("wrong.nvpt"))).divergence)
    let divergence = try #require(try anonymize(scratch("wrong.nvpt")).replay?.divergence)
    #expect(divergence.event == whole.event && divergence.isSame(as: whole))
  }

  @Test("A simulated run with every kind of fault replays as before", arguments: [31, 32, 33, 34] as [UInt64])
  func simulated(seed: UInt64) throws {
    try simulate(scratch("run.nvpt"), seed: seed, commands: 1500)
    let edited = try anonymize(scratch("run.nvpt"))
    #expect(edited.replay?.divergence == nil)
    #expect(try report(scratch("run.nvpt")) == report(edited.path))
  }

  @Test("Notes of the machine, the command and the original are gone")
  func notes() throws {
    var header = try TraceReader(path: engineTraces[0]).header
    header.metadata = [
      ("version", "1"), ("host", "secret"), ("kernel", "6.8.0-secret"), ("command", "secret"), ("options", "secret"),
      ("host's kernel", "7.1-secret"), ("host's host", "secret"),
      ("cut", "from 1 ns of secret; then to 9 ns of secret"),
      ("subsystem", "secret"), ("host offset ns", "5"),
    ]
    let notes = Anonymized.header(header).metadata
    #expect(!notes.contains { $0.value.contains("secret") })
    #expect(notes.contains { $0.key == "kernel" && $0.value == "6.8.0" })
    #expect(notes.contains { $0.key == "cut" && $0.value == "from 1 ns; then to 9 ns" })
    #expect(notes.contains { $0.key == "host offset ns" } && notes.contains { $0.key == "anonymized" })
  }
}
