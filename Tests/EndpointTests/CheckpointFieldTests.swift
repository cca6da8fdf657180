import Foundation
import NVMe
import Replay
import Target
import Testing
import Trace

@testable import Endpoint

/// The names of a checkpoint's fields in divergences and on the format page.
@Suite("Names of a checkpoint's fields")
struct CheckpointFieldTests {
  /// An engine whose state has at least one element of everything.
  private func everything() throws -> EngineBench {
    let bench = try EngineBench(scenario: .endless) { $0.arbitrationBurst = 7 }
    bench.enable()
    for qid in 1...3 as ClosedRange<UInt16> { #expect(bench.createPair(qid) == .success) }
    #expect(bench.createPair(4, entries: 4) == .success)
    bench.submit(0, SubmissionEntry(opcode: AdminOpcode.asynchronousEventRequest.rawValue, cid: CommandID(1)))
    // The queue has room for three completions.
    for cid in 1...4 as ClosedRange<UInt16> {
      bench.submit(4, EngineBench.io(.read, cid: cid, slba: .max, blocks: 1))
      bench.settle()
    }
    var first = EngineBench.io(.compare, slba: 0, blocks: 1)
    first.cdw0 |= 1 << 8
    var second = EngineBench.io(.write, cid: 2, slba: 0, blocks: 1)
    second.cdw0 |= 2 << 8
    bench.submit(2, first)
    bench.submit(3, EngineBench.io(.write, slba: 0, blocks: 1))
    bench.settle()
    var deletion = SubmissionEntry(opcode: AdminOpcode.deleteIOSubmissionQueue.rawValue, cid: CommandID(2))
    deletion.cdw10 = 3
    bench.submit(0, deletion)
    bench.settle()
    for sqe in [first, second, EngineBench.io(.read, cid: 3, slba: 0, blocks: 1)] { bench.submit(1, sqe) }
    bench.settle()
    var setFeatures = SubmissionEntry(opcode: AdminOpcode.setFeatures.rawValue, cid: CommandID(3))
    setFeatures.cdw10 = UInt32(FeatureID.volatileWriteCache.rawValue)
    bench.submit(0, setFeatures)
    bench.settle()
    bench.controller.target.features.errorRecovery = [1: 10]
    bench.controller.target.features.reservationMask = [1: 2]
    bench.controller.target.events.add(.temperatureThreshold)
    bench.controller.target.changedNamespaces = [1]
    var reservation = Reservation()
    reservation.registrants = [.init(host: HostIdentifier(low: 1, high: 0), key: 5)]
    bench.controller.target.reservations = Reservations(byNamespace: [1: reservation])
    return bench
  }

  private func fields(of bytes: [UInt8]) -> [StateField] { bytes.withUnsafeBytes(Controller.fields(of:)) }

  @Test("the fields of a checkpoint are contiguous, and each has its own path")
  func tile() throws {
    for bench in [try EngineBench(), try everything()] {
      let bytes = bench.controller.encoded()
      var again = try Controller.decode(bytes)
      #expect(again.brokenInvariant() == nil)
      let rewritten = again.encoded()
      #expect(rewritten == bytes)
      let fields = fields(of: bytes)
      var end = 0
      for field in fields {
        #expect(field.offset == end && field.length > 0, "\(field)")
        end = field.offset + field.length
      }
      #expect(end == bytes.count)
      #expect(Set(fields.map(\.path)).count == fields.count)
    }
  }

  /// The divergence of a recording whose last checkpoint was edited.
  private func divergence(_ edit: (inout [UInt8]) -> Void) throws -> Divergence? {
    let bench = try EngineBench()
    bench.enable()
    #expect(bench.createPair(1) == .success)
    #expect(bench.execute(1, EngineBench.io(.read, slba: 0, blocks: 1))?.status == .success)
    var bytes = bench.controller.encoded()
    edit(&bytes)
    bytes.withUnsafeBytes { bench.port.recorder.checkpoint($0, since: bench.port.recorder.time.ticks()) }
    bench.settle()
    return try replay(bench.recorded).divergence
  }

  @Test("a divergence in state names the field and both values")
  func named() throws {
    let divergence = try #require(
      try divergence { bytes in
        let head = fields(of: bytes).first { $0.path == "completion queue 1, head" }!
        #expect(head.length == 4 && head.value == "1")
        bytes[head.offset] = 12
      })
    #expect(divergence.engine == "another state: fields differ: 1")
    #expect(divergence.fields.map(\.name) == ["completion queue 1, head"])
    #expect(divergence.description.contains("differs:  completion queue 1, head: recorded 12, engine 1\n"))
  }

  @Test("whichever byte of a checkpoint differs, the divergence names a field that it changes")
  func anyByte() throws {
    var all: [StateField] = []
    _ = try divergence { all = fields(of: $0) }
    #expect(all.count > 100)
    for field in all {
      let found = try #require(try divergence { $0[field.offset] ^= 1 }, "\(field)")
      // A changed number names another object.
      let names = found.fields.map(\.name) + [found.engine]
      let kind = field.path.replacing(#/ \d+(?=,|$)/#, with: "")
      #expect(names.contains { $0.contains(field.path) || $0.hasPrefix("\(kind) ") }, "\(field): \(found)")
      #expect(found.fields.count <= 8)
    }
  }

  @Test("an object that only one state has is named once, and of many fields the first are listed")
  func manyFields() throws {
    let bench = try EngineBench()
    bench.controller.target.attach(Namespace(nsid: 7, blocks: 8, blockShift: 12))
    let other = bench.controller.encoded()
    let divergence = try #require(try divergence { $0 = other })
    #expect(divergence.engine.hasPrefix("another state: fields differ: "))
    #expect(divergence.fields.count == 8)
    let more = try #require(
      try self.divergence { bytes in
        // One more namespace.
        let place = fields(of: bytes).first { $0.path == "changed namespaces" }!.offset
        bytes[fields(of: bytes).first { $0.path == "namespaces" }!.offset] = 2
        let namespace = fields(of: other).filter { $0.path.hasPrefix("namespace 7") }
        bytes.insert(
          contentsOf: other[namespace[0].offset..<namespace.last!.offset + namespace.last!.length], at: place)
      })
    #expect(more.fields.map(\.name) == ["namespaces", "namespace 7"])
    #expect(more.fields.map(\.engine) == ["1", "none"])
  }

  @Test("a checkpoint that is too short or too long differs")
  func lengths() throws {
    for change in [{ $0.removeLast() }, { $0.append(0) }, { $0.removeAll() }] as [(inout [UInt8]) -> Void] {
      #expect(try divergence(change) != nil)
    }
  }

  // MARK: The format page

  private static let page = #filePath.replacing(
    "Tests/EndpointTests/CheckpointFieldTests.swift", with: "docs/trace-format.md")

  @Test("the format page lists the fields of the walk")
  func checkpointFormatPage() throws {
    let text = try String(contentsOfFile: Self.page, encoding: .utf8)
    let page = /(?s)(.*<!-- checkpoint: [^\n]*\n)(.*)(<!-- checkpoint end -->.*)/
    let parts = try #require(try page.wholeMatch(in: text))
    let table = "\n" + rows(fields(of: try everything().controller.encoded())).joined(separator: "\n") + "\n\n"
    if getenv("UPDATE_DOCS") != nil {
      try "\(parts.1)\(table)\(parts.3)".write(toFile: Self.page, atomically: true, encoding: .utf8)
    } else {
      #expect(
        parts.2 == table,
        "docs/trace-format.md is not up to date: UPDATE_DOCS=1 swift test --no-parallel --filter FormatPage")
    }
  }

  /// Each field once, without numbers; a command's fields only at its first occurrence.
  private func rows(_ fields: [StateField]) -> [String] {
    var rows: [(path: String, bytes: String)] = []
    var place = 0
    func add(_ path: String, _ bytes: String) {
      // A field that only some objects have follows the field before it.
      let found = rows.firstIndex { $0.path == path }
      if found == nil { rows.insert((path, bytes), at: place) }
      place = (found ?? place) + 1
    }
    var detailed: String?
    var command: (path: String, bytes: Int)?
    for field in fields {
      let path = field.path.replacing(#/ \d+(?=,|$)/#, with: "")
      if path.hasSuffix(", CDW0") {
        let owner = String(path.dropLast(", CDW0".count))
        detailed = detailed ?? owner
        if owner != detailed { command = (owner, 0) }
      }
      if let (owner, bytes) = command {
        let all = bytes + field.length
        let isLast = path.hasSuffix("DW0 of its completion")
        command = isLast ? nil : (owner, all)
        if isLast { add("\(owner), the fields of a command", "\(all)") }
      } else {
        add(path, field.value.hasPrefix("\"") ? "2 + length" : "\(field.length)")
      }
    }
    return ["| field | bytes |", "|---|---|"] + rows.map { "| \($0.path) | \($0.bytes) |" }
  }
}
