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

/// Copy a trace, with a change of some events; those for which `change` returns false are left out.
func rewrite(_ path: String, to other: String, _ change: (inout TestEvent) -> Bool) throws {
  let reader = try TraceReader(path: path)
  let copy = try TraceCopy(other, header: reader.header, of: reader)
  for (id, chunks) in reader.streams {
    var walk = try EventWalk(EditInput(reader), chunks)
    while let record = try walk.next() {
      var event = TestEvent(record: record.pointee, tail: Array(record.tail), id: id)
      guard change(&event) else { continue }
      try event.record.withTail(event.tail) { (record) throws(TraceError) in try copy.append(record, as: id) }
    }
  }
  try copy.close(end: reader.end)
  try copy.publish()
}

/// Change the event of this kind that is nearest to the middle of a trace.
func mutate(_ path: String, to other: String, _ kind: EventKind, _ change: (inout TestEvent) -> Void) throws {
  let count = try events(of: path).count { $0.record.is(kind) && $0.id.source == .engine }
  try #require(count > 0, "\(path) has no \(kind)")
  var number = 0
  try rewrite(path, to: other) { event in
    guard event.record.is(kind), event.id.source == .engine else { return true }
    if number == (count + 1) / 2 { change(&event) }
    number += 1
    return true
  }
}
