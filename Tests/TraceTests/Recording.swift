import Glibc

@testable import Trace

/// Numbers that a seed reproduces (SplitMix64).
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// A directory with rings and a trace of its own; everything goes with it.
final class Recording {
  let id = TraceID.random()
  let rings: RecordingDirectory
  let files: String
  var path: String { files + "/trace.nvpt" }
  let startTicks: UInt64 = 1_000_000

  init() throws {
    rings = try RecordingDirectory(creating: id)
    var template = Array("/tmp/nvpt-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw TraceError(.system(errno), "no temporary directory") }
    files = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }

  deinit {
    RecordingDirectory.remove(rings.path)
    for name in ["trace.nvpt", "trace.nvpt.compact", "trace.nvpt.repair", "other.nvpt"] { unlink("\(files)/\(name)") }
    rmdir(files)
  }

  /// One tick is one nanosecond, to rounding.
  var header: TraceHeader {
    TraceHeader(
      id: id, startRealtimeNs: 1, ticksPerSecond: 1_000_000_000, startTicks: startTicks,
      metadata: [("command", "test")])
  }

  func makeWriter(keepBytes: UInt64? = nil) throws -> TraceWriter {
    try TraceWriter(path: path, header: header, keepBytes: keepBytes)
  }

  func makeRing(_ source: Source, _ stream: UInt16 = 0, capacity: UInt64 = 1 << 14, name: String? = nil) throws -> Ring
  {
    try Ring(
      creating: "\(rings.path)/\(name ?? "\(source)-\(stream)").ring", capacity: capacity, source: source,
      stream: stream, traceID: id)
  }
}

/// An event with its bytes as a producer appends them.
struct Event: Equatable {
  var record: Record
  var bytes: [UInt8] = []

  func append(to producer: inout RingProducer) { bytes.withUnsafeBytes { producer.append(record, $0) } }

  /// Every field of the kind filled at random.
  static func random(_ kind: EventKind, time: UInt64, _ random: inout Seeded) -> Event {
    let description = kind.description
    var record = Record(time: time, kind: kind)
    for field in description.fields {
      let value = UInt64.random(in: 0...UInt64.max >> UInt64.random(in: 0..<64, using: &random), using: &random)
      switch field.place {
      case .flags: record.flags = UInt8(truncatingIfNeeded: value)
      case .qid: record.qid = UInt16(truncatingIfNeeded: value)
      case .cid: record.cid = UInt16(truncatingIfNeeded: value)
      case .a: record.a = field.unit == .span ? value % 1000 : value
      case .aLow: record.aLow = UInt32(truncatingIfNeeded: value)
      case .aHigh: record.aHigh = UInt32(truncatingIfNeeded: value)
      case .b: record.b = value
      case .bLow: record.bLow = field.unit == .span ? UInt32(value % 1000) : UInt32(truncatingIfNeeded: value)
      case .bHigh: record.bHigh = field.unit == .span ? UInt32(value % 1000) : UInt32(truncatingIfNeeded: value)
      case .tail: break
      }
    }
    var bytes: [UInt8] = []
    if description.carriesBytes {
      record.flags &= ~EventFlag.bytes
      if Bool.random(using: &random) {
        record.flags |= EventFlag.bytes
        record.bLow = UInt32.random(in: 1...200, using: &random)
        bytes = (0..<record.bLow).map { _ in UInt8.random(in: 0...255, using: &random) }
      }
    } else {
      bytes = (0..<description.fixedTailBytes).map { _ in UInt8.random(in: 0...255, using: &random) }
    }
    return Event(record: record, bytes: bytes)
  }

  /// What a trace gives back of it: the time in nanoseconds, the spans as differences of such times.
  func inTrace(_ scale: TimeScale) -> [UInt64] {
    var record = record
    for field in record.event!.description.fields where field.unit == .span {
      func ns(_ span: UInt64) -> UInt64 { scale.ns(record.time) - scale.ns(record.time - span) }
      switch field.place {
      case .a: record.a = ns(record.a)
      case .bLow: record.bLow = UInt32(ns(UInt64(record.bLow)))
      default: record.bHigh = UInt32(ns(UInt64(record.bHigh)))
      }
    }
    record.time = scale.ns(record.time)
    record.tail = UInt16((bytes.count + 31) / 32)
    var words = withUnsafeBytes(of: record) { Array($0) }
    words += bytes + [UInt8](repeating: 0, count: (32 - bytes.count % 32) % 32)
    return words.withUnsafeBytes { Array($0.bindMemory(to: UInt64.self)) }
  }
}

/// All slots of a stream, as words.
func words(of reader: TraceReader, _ chunks: [Int]) throws(TraceError) -> [UInt64] {
  let next = reader.source(of: chunks)
  var all: [UInt64] = []
  while let slots = try next() {
    all += UnsafeRawBufferPointer(slots).bindMemory(to: UInt64.self)
  }
  return all
}
