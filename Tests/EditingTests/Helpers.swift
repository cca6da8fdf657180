import Events
import Foundation
import Replay
import Simulation
import Testing
import Trace

@testable import Editing

/// A directory of a test's own, removed when the test lets go of it.
final class Scratch {
  let path: String
  init() {
    var template = Array("/tmp/nvmepf-test-XXXXXX".utf8CString)
    path = String(cString: mkdtemp(&template)!)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
  func callAsFunction(_ name: String) -> String { "\(path)/\(name)" }
}

/// The traces that every build replays.
let goldenTraces: [String] = {
  let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("traces").path
  let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
  return names.filter { $0.hasSuffix(".nvpt") }.sorted().map { "\(folder)/\($0)" }
}()

/// Those of our own endpoint.
let engineTraces = goldenTraces.filter { !$0.hasSuffix("nvmet-pci-epf.nvpt") }

/// Record a simulated run.
func simulate(_ path: String, seed: UInt64, commands: UInt64) throws {
  let result = try Simulation(seed: seed, commands: commands).run(path: path)
  try #require(result.failure == nil, "seed \(seed)")
}

/// An event with the bytes after it.
struct TestEvent: Equatable {
  var record: Record
  var tail: [UInt8]
  var id: StreamID
}

/// All events of a trace, in order of time.
func events(of path: String) throws -> [TestEvent] {
  var merged = try MergedEvents(try TraceReader(path: path))
  var events: [TestEvent] = []
  while let (record, id) = try merged.next() {
    events.append(TestEvent(record: record.pointee, tail: Array(record.tail), id: id))
  }
  return events
}
