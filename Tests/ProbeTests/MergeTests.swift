import Analysis
import Foundation
import NVMe
import Testing
import Trace

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
      let recorder = try RecorderThread(TraceWriter(path: path, id: id, scale: .identity, directory: directory))
      var producers: [UInt16: Producer] = [:]
      var kept: Set<UInt16> = []
      var events = try MergedEvents(reader)
      while let (record, stream) = try events.next() {
        var event = record.pointee
        if event.event == .origin, (event.flags & 1 != 0) == isHost { kept.insert(stream.stream) }
        guard kept.contains(stream.stream) else { continue }
        if isHost { event.time = UInt64((Double(event.time) - offset) / (1 + drift)) }
        let producer =
          try producers[stream.stream]
          ?? Producer(
            Ring(
              creating: "\(directory.path)/\(stream.stream).ring", capacity: 1 << 14, source: .kernel,
              stream: stream.stream, traceID: id))
        producers[stream.stream] = producer
        producer.append(event, UnsafeRawBufferPointer(start: record + 1, count: Int(event.tail) * Record.size))
      }
      producers = [:]
      _ = recorder.stop()
      readers.append(try TraceReader(path: path))
    }
    return (readers[0], readers[1], paths)
  }

  private final class Producer {
    private var producer: RingProducer
    init(_ ring: Ring) { producer = RingProducer(ring, whenFull: .wait) }
    func append(_ record: Record, _ bytes: UnsafeRawBufferPointer) {
      if bytes.isEmpty { producer.append(record) } else { producer.append(record, bytes) }
    }
  }

  @Test(
    "The clocks' offset and drift are found again, as well as it is said",
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
    var analyzer = StageAnalyzer(subject: .controller(1))
    var events = try MergedEvents(merged)
    while let (record, id) = try events.next() {
      let tail = UnsafeRawBufferPointer(start: record + 1, count: Int(record.pointee.tail) * Record.size)
      analyzer.take(record.pointee, source: id.source, stream: Int(id.stream), tail: tail)
    }
    let commands = analyzer.summary()
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
}
