import Analysis
import Chance
@_spi(Places) import Events
import Foundation
import NVMe
import Testing
import Trace

@testable import Merge

@Suite("A host's and a target's trace") struct MergeTests {
  /// What nvmet-pci-epf and the nvme driver did in one kernel, taken apart: the host's clock is set off.
  private func split(offset: Double, drift: Double) throws -> (host: TraceReader, target: TraceReader, paths: [String])
  {
    let golden = #filePath.replacing("Tests/ProbeTests/MergeTests.swift", with: "traces/nvmet-pci-epf.nvpt")
    let reader = try TraceReader(path: golden)
    var paths: [String] = []
    var readers: [TraceReader] = []
    for isHost in [true, false] {
      let path = NSTemporaryDirectory() + "merge-\(UUID().uuidString).nvpt"
      paths.append(path)
      let id = TraceID.random()
      let directory = try RecordingDirectory(creating: id, tracePath: path, ringBytes: 1 << 20)
      defer { directory.remove() }
      let recorder = try RecorderThread(
        TraceWriter(
          path: path, id: id, scale: .identity,
          metadata: [("side", isHost ? "host" : "target"), ("kernel", isHost ? "6.1" : "6.2")], directory: directory))
      var producers: [UInt16: Producer] = [:]
      var kept: Set<UInt16> = []
      var events = try MergedEvents(reader)
      while let (record, stream) = try events.next() {
        var event = record.pointee
        if event.event == .origin, Event.Origin(event).flags.contains(.host) == isHost { kept.insert(stream.stream) }
        guard kept.contains(stream.stream) else { continue }
        if isHost { event.time = UInt64((Double(event.time) - offset) / (1 + drift)) }
        let producer =
          try producers[stream.stream]
          ?? Producer(
            Ring(
              creating: "\(directory.path)/\(stream.stream).ring", capacity: 1 << 14, source: .kernel,
              stream: stream.stream, traceID: id))
        producers[stream.stream] = producer
        producer.append(event, record.tail)
      }
      producers = [:]
      _ = recorder.stop()
      readers.append(try TraceReader(path: path))
    }
    return (readers[0], readers[1], paths)
  }

  private final class Producer {
    private var producer: RingProducer
    init(_ ring: Ring) { producer = RingProducer(ring, whenFull: .waitSilently) }
    func append(_ record: Record, _ bytes: UnsafeRawBufferPointer) {
      if bytes.isEmpty { producer.append(record) } else { producer.append(record, bytes) }
    }
  }

  @Test("Where there are more commands than are compared, the match tells until when they were, and the trace keeps it")
  func compared() throws {
    let (host, target, paths) = try split(offset: -5e9, drift: 0)
    defer { for path in paths { unlink(path) } }
    #expect(try #require(try TraceMerge(host: host, target: target)).match.comparedUntilNs == nil)
    let merge = try #require(try TraceMerge(host: host, target: target, commandsMax: 200))
    let end = try #require(merge.match.comparedUntilNs)
    let times = target.chunks.map(\.header)
    #expect(merge.match.fit.commands <= 200)
    #expect(end > times.map(\.firstTime).min()! && end < times.map(\.lastTime).max()!)
    let path = paths[0] + ".merged"
    defer { unlink(path) }
    _ = try merge.write(to: path)
    let notes = try TraceReader(path: path).header.metadata
    #expect(notes.first { $0.key == TraceHeader.MergeKey.comparedUntil }?.value == "\(end)")
  }

  @Test("The merged trace has the notes of both sides")
  func notes() throws {
    let (host, target, paths) = try split(offset: -5e9, drift: 0)
    defer { for path in paths { unlink(path) } }
    let path = paths[0] + ".merged"
    defer { unlink(path) }
    _ = try #require(try TraceMerge(host: host, target: target)).write(to: path)
    let notes = try TraceReader(path: path).header.metadata
    for (key, side) in [("side", "target"), ("host's side", "host"), ("host's kernel", "6.1")] {
      #expect(notes.first { $0.key == key }?.value == side, "\(notes)")
    }
    #expect(Array(notes.map(\.key).prefix(1)) == ["side"])
  }

  @Test("An interrupted merge leaves no file, and a previous one as it was")
  func interrupted() throws {
    let (host, target, paths) = try split(offset: -5e9, drift: 0)
    defer { for path in paths { unlink(path) } }
    let merge = try #require(try TraceMerge(host: host, target: target))
    let path = paths[0] + ".merged"
    defer { for name in [path, path + ".old"] { unlink(name) } }
    var asked = 0
    func interrupt() -> Bool {
      asked += 1
      return true
    }
    #expect { _ = try merge.write(to: path, isInterrupted: interrupt) } throws: { "\($0)".contains("interrupted") }
    #expect(asked == 1)
    for suffix in ["", ".part", ".old"] { #expect(!FileManager.default.fileExists(atPath: path + suffix)) }
  }

  @Test(
    "The offset and drift of the clocks are found within the reported uncertainty",
    arguments: [(-5.0e9, 0.0), (-1_234_567.0, 37e-6), (-250.0e9, -80e-6)])
  func recovers(offset: Double, drift: Double) throws {
    let (host, target, paths) = try split(offset: offset, drift: drift)
    defer { for path in paths { unlink(path) } }
    let merge = try #require(try TraceMerge(host: host, target: target))
    let fit = merge.match.fit
    #expect(fit.commands > 500)
    // True at both ends of the recording, then, and between.
    for time in [0.0, 4e9] {
      let there = (time - offset) / (1 + drift)
      let error = abs(Double(fit.targetTime(UInt64(there))) - time)
      #expect(error <= fit.boundNs + 2, "off by \(error) ns, said to be known to \(fit.boundNs) ns")
    }
    #expect(fit.boundNs < 1_000_000)

    let path = paths[0] + ".merged"
    defer { unlink(path) }
    let summary = try merge.write(to: path)
    #expect(summary.error == nil && summary.problems.isEmpty)
    let merged = try TraceReader(path: path)
    // But for what a host stream says of its origin once more.
    #expect(host.totals.events + target.totals.events - merged.totals.events <= 4)
    let commands = try Summary(of: merged, .controller(1))
    #expect(commands.io.commands > 500 && commands.hostSubmit == nil)
    #expect(commands.io[.reap].maxNs > 0 && commands.io[.detect].maxNs > 0)
  }

  @Test("Traces of different commands do not match")
  func different() throws {
    let trace = try KernelTrace()
    trace.read(1, slot: 0)
    let reader = try trace.finish()
    #expect(try TraceMerge(host: reader, target: reader) == nil)
  }

  @Test("Mismatched commands do not spoil the fit, and its bound contains the true value")
  func outliers() throws {
    var bounds = ClockFit.Bounds()
    var random = SeededGenerator(seed: 3)
    func truth(_ time: Double) -> Double { 5e6 + 20e-6 * time }
    for index in 0..<1000 {
      let time = Double(index) * 1e6
      let (before, after) = (
        Double.random(in: 2000...50_000, using: &random), Double.random(in: 2000...50_000, using: &random)
      )
      bounds.upper.append(.init(time: time, difference: truth(time) + before - (index == 500 ? 1e6 : 0)))
      bounds.lower.append(.init(time: time, difference: truth(time) - after + (index == 20 ? 3e6 : 0)))
    }
    let fit = try #require(ClockFit(bounds, commands: 1000))
    #expect(fit.outliers == 2 && fit.boundNs < 100_000)
    for time in [0.0, 999e6] {
      #expect(abs(fit.offsetNs + fit.drift * time - truth(time)) <= fit.boundNs)
    }
    #expect(fit.targetTime(.max) > 0)
  }

  /// Commands of a host and, 1 µs within on either side, of a transport that shows no fetch.
  private func pair(commands: UInt16, gapAt: UInt16? = nil, neighbour: String? = nil) throws
    -> (host: KernelTrace, target: KernelTrace)
  {
    let (host, target) = (try KernelTrace(controller: nil), try KernelTrace(controller: nil))
    if let neighbour { try target.origin(stream: 1, controller: 1, isHost: true, nqn: neighbour) }
    try target.origin(stream: 0, controller: 1)
    try host.origin(stream: 0, controller: 3, isHost: true)
    try host.origin(stream: 1, controller: 8, isHost: true)
    for cid in 0..<commands {
      let place = UInt64(cid) * 8
      host.add(.submit, flags: 2, qid: 1, cid: cid, a: place, after: 1000)
      if cid == gapAt { host.add(.gap, a: 5, after: 0, stream: 1) }
      host.add(.completion, qid: 1, cid: cid, b: 1 << 16, after: 4000)
      target.add(.request, flags: 2, qid: 1, cid: cid, a: place, after: cid == 0 ? 77_000 : 3000)
      target.add(.executeEnd, qid: 1, cid: cid, after: 2000)
    }
    return (host, target)
  }

  private func summary(of path: String) throws -> Summary {
    try Summary(of: TraceReader(path: path), .controller(1))
  }

  @Test("Transports without fetch events merge by the target core's requests")
  func requests() throws {
    let (host, target) = try pair(commands: 100)
    let merge = try #require(try TraceMerge(host: host.finish(), target: target.finish()))
    let path = host.path + ".merged"
    defer { unlink(path) }
    _ = try merge.write(to: path)
    let summary = try summary(of: path)
    #expect(merge.match.fit.commands == 100 && merge.match.fit.outliers == 0)
    #expect(summary.io.commands == 100 && summary.partial == 0 && summary.io.latency.maxNs <= 4001)
  }

  @Test("A driver on the target's machine whose instance has the controller's number does not name it")
  func neighbour() throws {
    let (host, target) = try pair(commands: 100, neighbour: "another")
    let merge = try #require(try TraceMerge(host: host.finish(), target: target.finish()))
    let path = host.path + ".merged"
    defer { unlink(path) }
    _ = try merge.write(to: path)
    // From the host's submission, 1 µs before the target took it, to its completion.
    let summary = try summary(of: path)
    #expect(summary.io.commands == 100 && summary.io.latency.p50Ns > 3000)
  }

  @Test("A gap of a host's stream that is left out is kept")
  func foreignGap() throws {
    let (host, target) = try pair(commands: 100, gapAt: 50)
    let merge = try #require(try TraceMerge(host: host.finish(), target: target.finish()))
    let path = host.path + ".merged"
    defer { unlink(path) }
    _ = try merge.write(to: path)
    let summary = try summary(of: path)
    #expect(summary.gaps == 1 && summary.lost == 5 && summary.io.commands + summary.partial >= 99)
  }

  @Test("More streams than a trace is written with are refused, not waited for")
  func streams() throws {
    let (other, target) = try pair(commands: 100)
    _ = other
    let host = try KernelTrace(controller: nil, slots: 1 << 10)
    for stream in 0..<256 as Range<UInt16> { try host.origin(stream: stream, controller: 3, isHost: true) }
    for cid in 0..<100 as Range<UInt16> {
      host.add(.submit, flags: 2, qid: 1, cid: cid, a: UInt64(cid) * 8, after: 1000)
      host.add(.completion, qid: 1, cid: cid, b: 1 << 16, after: 4000)
    }
    let merge = try #require(try TraceMerge(host: host.finish(), target: target.finish()))
    #expect(throws: TraceError.self) { try merge.write(to: host.path + ".merged") }
  }

  @Test("Who copies events leaves none of his own: the ticks of the machine are not the trace's")
  func copierWaits() throws {
    let path = NSTemporaryDirectory() + "wait-\(UUID().uuidString).nvpt"
    defer { unlink(path) }
    let id = TraceID.random()
    let directory = try RecordingDirectory(creating: id, tracePath: path, ringBytes: 1 << 20)
    defer { directory.remove() }
    let writer = try TraceWriter(path: path, id: id, scale: .identity, directory: directory)
    let ring = try Ring(
      creating: "\(directory.path)/kernel.ring", capacity: 128, source: .kernel, stream: 0, traceID: id)
    writer.add(ring)
    let recorder = try RecorderThread(writer)
    let producer = Producer(ring)
    for time in 0..<5000 as Range<UInt64> {
      producer.append(Record(time: time, kind: .response), UnsafeRawBufferPointer(start: nil, count: 0))
    }
    ring.finish()
    _ = recorder.stop()
    let totals = try TraceReader(path: path).totals
    #expect(totals.events == 5000)
  }
}
