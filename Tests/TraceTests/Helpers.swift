import Chance
import EventTable
@_spi(Places) import Events
import Glibc
import Testing

@testable import Trace

/// A directory of a test's own, removed when the test lets go of it.
final class Scratch {
  let path: String
  init() {
    var template = Array("/tmp/nvmepf-test-XXXXXX".utf8CString)
    path = String(cString: mkdtemp(&template)!)
  }
  deinit { if getenv("KEEP") == nil { removeTree(path) } }
  func callAsFunction(_ name: String) -> String { "\(path)/\(name)" }
}

func removeTree(_ path: String) {
  if let directory = opendir(path) {
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { removeTree("\(path)/\(name)") }
    }
    closedir(directory)
    rmdir(path)
  } else {
    unlink(path)
  }
}

func readFile(_ path: String) throws -> [UInt8] {
  let descriptor = open(path, O_RDONLY)
  try #require(descriptor >= 0)
  defer { close(descriptor) }
  var status = stat()
  fstat(descriptor, &status)
  var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
  let count = bytes.count
  try #require(
    try bytes.withUnsafeMutableBytes { try readFully(descriptor, $0.baseAddress!, count, at: 0, path: path) })
  return bytes
}

func writeFile(_ path: String, _ bytes: some Collection<UInt8>) throws {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
  try #require(descriptor >= 0)
  defer { close(descriptor) }
  let bytes = Array(bytes)
  try #require(write(descriptor, bytes, bytes.count) == bytes.count)
}

/// Slots of records with tails, as they would lie in a ring.
struct Slots: Equatable {
  var records: [Record] = []

  mutating func append(_ record: Record, _ bytes: [UInt8] = []) {
    var first = record
    first.tail = UInt16((bytes.count + 31) / 32)
    records.append(first)
    var padded = bytes
    while padded.count % 32 != 0 { padded.append(0) }
    padded.withUnsafeBytes { raw in
      for offset in stride(from: 0, to: raw.count, by: 32) {
        records.append(raw.loadUnaligned(fromByteOffset: offset, as: Record.self))
      }
    }
  }
}

extension Record {
  /// Set a field of the event table.
  mutating func set(_ place: FieldPlace, _ value: UInt64, tail: inout [UInt8]) {
    switch place {
    case .flags: flags = UInt8(truncatingIfNeeded: value)
    case .qid: qid = UInt16(truncatingIfNeeded: value)
    case .cid: cid = UInt16(truncatingIfNeeded: value)
    case .a: a = value
    case .b: b = value
    case .aLow: aLow = UInt32(truncatingIfNeeded: value)
    case .aHigh: aHigh = UInt32(truncatingIfNeeded: value)
    case .bLow: bLow = UInt32(truncatingIfNeeded: value)
    case .bHigh: bHigh = UInt32(truncatingIfNeeded: value)
    case .tail(let offset, let width):
      for byte in 0..<width { tail[offset + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
    }
  }
}

/// A random event of a kind: every field of the table anything, times ascending, some spans longer than the trace.
func appendRandom(_ kind: EventKind, time: UInt64, to slots: inout Slots, _ random: inout SeededGenerator) {
  let description = kind.description
  var record = Record(time: time, kind: kind)
  var tail = [UInt8](repeating: 0, count: description.fixedTailBytes)
  for field in description.fields {
    var value = random.next()
    // Often small, often the same.
    switch random.next() % 4 {
    case 0: value = 0
    case 1: value &= 0xff
    case 2: value &= 0xffff_ffff
    default: break
    }
    record.set(field.place, value, tail: &tail)
  }
  if description.carriesBytes {
    let count = record.flags & Record.carriesBytesFlag == 0 ? 0 : Int(random.next() % 200)
    if record.flags & Record.carriesBytesFlag != 0 { record.bLow = UInt32(count) }
    tail = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
  }
  slots.append(record, tail)
}

func randomSlots(
  events: Int, _ random: inout SeededGenerator, from start: UInt64 = 0, kinds: [EventKind] = EventKind.allCases
)
  -> Slots
{
  var slots = Slots()
  var time = start
  for _ in 0..<events {
    time += random.next() % 1000
    appendRandom(kinds.randomElement(using: &random)!, time: time, to: &slots, &random)
  }
  return slots
}

extension Slots {
  /// What a trace gives for them: times and spans through the scale.
  func inNanoseconds(_ scale: TickScale) -> Slots {
    var converted = self
    var index = 0
    while index < records.count {
      let record = records[index]
      let end = scale.nanoseconds(record.time)
      func span(_ ticks: UInt64) -> UInt64 { end &- scale.nanoseconds(record.time &- ticks) }
      converted.records[index].time = end
      switch record.event?.description.fields.first(where: { $0.unit == .span })?.place {
      case .bLow: converted.records[index].bLow = UInt32(clamping: span(UInt64(record.bLow)))
      case .bHigh: converted.records[index].bHigh = UInt32(clamping: span(UInt64(record.bHigh)))
      case .a: converted.records[index].a = span(record.a)
      default: break
      }
      index += 1 + Int(record.tail)
    }
    return converted
  }

  /// Events, by their places in the slots.
  var events: [(record: Record, tail: [Record])] {
    var events: [(Record, [Record])] = []
    var index = 0
    while index < records.count {
      let next = index + 1 + Int(records[index].tail)
      events.append((records[index], Array(records[index + 1..<next])))
      index = next
    }
    return events
  }
}

/// A recording in one thread: a ring and the writer that drains it.
final class Recording {
  let directory: RecordingDirectory
  let writer: TraceWriter
  let path: String
  let id = TraceID.random()
  private var rings: UInt16 = 0

  init(_ path: String, scale: TickScale = .identity, options: TraceWriter.Options = .init()) throws {
    self.path = path
    directory = try RecordingDirectory(creating: id, tracePath: path, ringBytes: 1 << 24)
    writer = try TraceWriter(
      path: path, id: id, scale: scale, metadata: [("host", "test")], directory: directory, options: options)
  }

  deinit { directory.remove() }

  /// A ring that the next `drain` empties: the writer looks for new files only now and then.
  func ring(_ source: Source, capacity: UInt64 = 1 << 12) throws -> Ring {
    defer { rings += 1 }
    let ring = try Ring(
      creating: "\(directory.path)/\(rings).ring", capacity: capacity, source: source, stream: rings, traceID: id)
    writer.add(ring)
    return ring
  }
}

extension RingProducer {
  /// Append the events of `slots`, draining the ring into the writer as it fills.
  mutating func append(_ slots: Slots, draining writer: TraceWriter) {
    for (record, tail) in slots.events {
      tail.withUnsafeBytes { append(record, $0) }
      if (try? RingConsumer(ring).available().count) ?? 0 > Int(ring.capacity) / 4 { writer.drain() }
    }
    writer.drain()
  }
}

/// All slots of a stream, decoded.
func decodeAll(_ reader: TraceReader, stream: UInt16) throws -> Slots {
  var decoded = try DecodedChunk()
  var slots = Slots()
  for (index, chunk) in reader.chunks.enumerated() where chunk.header.id.stream == stream {
    try reader.decode(index, into: &decoded)
    slots.records += decoded.slots
  }
  return slots
}

/// The path of a program that the tests are built with.
func tool(_ name: String) throws -> String {
  var own = [CChar](repeating: 0, count: 4096)
  let length = readlink("/proc/self/exe", &own, own.count)
  // The tests may run in a helper of the tool chain; the products lie beside the test bundle that it is given.
  let candidates =
    CommandLine.arguments + [String(decoding: own.prefix(max(length, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)]
  let folders = candidates.compactMap { path in path.lastIndex(of: "/").map { String(path[..<$0]) } }
  return try #require(folders.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 })
}

/// Run a program to its end. Returns its exit status and what it wrote.
func run(_ words: [String]) throws -> (status: Int32, output: String) {
  var ends: [Int32] = [0, 0]
  try #require(pipe(&ends) == 0)
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
  posix_spawn_file_actions_addclose(&actions, ends[0])
  defer { posix_spawn_file_actions_destroy(&actions) }
  var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
  arguments.append(nil)
  var child = pid_t()
  let error = posix_spawnp(&child, arguments[0]!, &actions, nil, &arguments, environ)
  for argument in arguments { free(argument) }
  close(ends[1])
  defer { close(ends[0]) }
  if error != 0 { return (127, "") }
  var output: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 65536)
  while true {
    let count = read(ends[0], &buffer, buffer.count)
    if count <= 0 { break }
    output += buffer[..<count]
  }
  var status: Int32 = 0
  waitpid(child, &status, 0)
  return (status >> 8 & 0xff, String(decoding: output, as: UTF8.self))
}
