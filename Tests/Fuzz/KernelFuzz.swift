import Analysis
@_spi(Places) import Events
import Glibc
import Merge
import Replay
import Trace

/// Kernel events in any order and with any numbers are analysed, replayed and merged, or refused.
@_cdecl("fuzz_kernel")
public func fuzzKernel(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  var input = Input(data, count)
  guard let target = kernelTrace("target", &input, isHost: false), let host = kernelTrace("host", &input, isHost: true)
  else { return 0 }
  analyse(target)
  if let replay = try? DriverReplay(target, controller: 1) { _ = replay.run() }
  let merged = "/dev/shm/nvmepf-fuzz-\(getpid())-merged"
  defer { unlink(merged) }
  guard let merge = try? TraceMerge(host: host, target: target), (try? merge.write(to: merged)) != nil,
    let reader = try? TraceReader(path: merged)
  else { return 0 }
  analyse(reader)
  return 0
}

private func analyse(_ reader: TraceReader) {
  var analyzer = StageAnalyzer(grouping: nil, subject: .controller(1))
  try? analyzer.ingestAll(of: reader)
  _ = analyzer.summary()
}

/// A trace of one stream, of half of the input at most.
private func kernelTrace(_ name: String, _ input: inout Input, isHost: Bool) -> TraceReader? {
  let path = "/dev/shm/nvmepf-fuzz-\(getpid())-\(name)"
  let id = TraceID.random()
  guard let directory = try? RecordingDirectory(creating: id, tracePath: nil, ringBytes: 0) else { return nil }
  defer {
    directory.remove()
    unlink(path)
  }
  guard let writer = try? TraceWriter(path: path, id: id, scale: .identity, directory: directory),
    let ring = try? Ring(
      creating: "\(directory.path)/0.ring", capacity: 1 << 13, source: .kernel, stream: 0, traceID: id)
  else { return nil }
  writer.add(ring)
  fill(RingProducer(ring, whenFull: .drop), &input, isHost: isHost)
  _ = writer.finish()
  return try? TraceReader(path: path)
}

private func fill(_ producer: consuming RingProducer, _ input: inout Input, isHost: Bool) {
  let nqn: [UInt8] = Array("nqn".utf8)
  let origin = Record(
    kind: .origin, flags: Record.carriesBytesFlag | (isHost ? 1 : 0), cid: isHost ? 0 : 1, a: isHost ? 1 : 0,
    b: UInt64(nqn.count))
  nqn.withUnsafeBytes { producer.append(origin, $0) }
  var time: UInt64 = 0
  for _ in 0..<100 where !input.isEmpty {
    time &+= number(&input) & 0x3fff_ffff_ffff
    append(event(&input, at: time), &input, to: &producer)
  }
}

private func event(_ input: inout Input, at time: UInt64) -> Record {
  let kind = EventKind.allCases[Int(input.consume(UInt8.self)) % EventKind.allCases.count]
  let flags = input.consume(UInt8.self)
  let name = input.consume(UInt8.self)
  return Record(
    time: time, kind: kind, flags: flags, qid: UInt16(name & 3), cid: UInt16(name >> 2 & 7), a: number(&input),
    b: number(&input))
}

/// As often small as large, and at the edges.
private func number(_ input: inout Input) -> UInt64 {
  let first = input.consume(UInt8.self)
  return switch first >> 6 {
  case 0: UInt64(first)
  case 1: UInt64(input.consume(UInt16.self))
  case 2: UInt64.max - UInt64(first & 3)
  default: input.consume(UInt64.self)
  }
}

private func append(_ record: Record, _ input: inout Input, to producer: inout RingProducer) {
  var record = record
  let description = record.event!.description
  var bytes = [UInt8](repeating: 0, count: description.fixedTailBytes)
  if description.carriesBytes {
    bytes = [UInt8](repeating: 0, count: Int(input.consume(UInt8.self)))
    record.flags = bytes.isEmpty ? record.flags & ~Record.carriesBytesFlag : record.flags | Record.carriesBytesFlag
    record.bLow = UInt32(bytes.count)
  }
  for index in bytes.indices { bytes[index] = input.consume(UInt8.self) }
  bytes.withUnsafeBytes { producer.append(record, $0) }
}
