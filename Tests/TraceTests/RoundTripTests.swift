import CPlatform
import Glibc
import Testing

@testable import Trace

@Suite struct RoundTripTests {
  @Test("Whatever the fields hold, a trace gives back what was recorded", arguments: 0..<UInt64(24))
  func everyKind(seed: UInt64) throws {
    var random = Seeded(seed)
    let recording = try Recording()
    let writer = try recording.makeWriter()
    let ring = try recording.makeRing(.engine)
    writer.add(ring)
    var producer = RingProducer(ring, whenFull: .wait)
    let scale = TimeScale(startTicks: recording.startTicks, ticksPerSecond: 1_000_000_000)
    var expected: [UInt64] = []
    var time = recording.startTicks + 10_000
    for _ in 0..<Int.random(in: 1...1500, using: &random) {
      time += UInt64.random(in: 0...2000, using: &random)
      let event = Event.random(EventKind.allCases.randomElement(using: &random)!, time: time, &random)
      event.append(to: &producer)
      expected += event.inTrace(scale)
      if Int.random(in: 0..<100, using: &random) == 0 { writer.drain() }
    }
    try writer.finish()
    let reader = try TraceReader(path: recording.path)
    #expect(reader.isComplete && reader.damage == nil)
    #expect(try words(of: reader, Array(reader.chunks.indices)) == expected)
  }

  @Test("Columns that are equal are stored once")
  func references() throws {
    var encoder = ColumnEncoder()
    var random = Seeded(1)
    let values = (0..<1000).map { _ in random.next() }
    var first = values
    encoder.put(&first, 1000)
    let once = encoder.count
    var second = values
    encoder.put(&second, 1000)
    #expect(once > 7900 && encoder.count == once + 3)
  }

  @Test("A header that this version cannot read is refused with the version that wrote it")
  func tooNew() throws {
    let recording = try Recording()
    try recording.makeWriter().finish()
    let file = open(recording.path, O_RDWR)
    var two: UInt16 = 2
    pwrite(file, &two, 2, 8)
    close(file)
    let error = try #require(throws: TraceError.self) { try TraceReader(path: recording.path) }
    guard case .tooNew = error.kind else {
      Issue.record("\(error)")
      return
    }
    #expect(error.description.contains("was written by a newer nvmepf (format 2.0)"))
  }

  @Test("CRC32C is RFC 3720's, however the bytes are split")
  func crc32c() {
    func crc(_ bytes: [UInt8]) -> UInt32 { nvmepf_crc32c(0, bytes, bytes.count) }
    #expect(crc([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
    #expect(crc([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
    #expect(crc(Array(0..<32)) == 0x46dd_794e)
    #expect(crc(Array("123456789".utf8)) == 0xe306_9283)
    var random = Seeded(3)
    for length in 0..<300 {
      let bytes = (0..<length).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      var split: UInt32 = 0
      for byte in bytes { withUnsafeBytes(of: byte) { split = nvmepf_crc32c(split, $0.baseAddress, 1) } }
      #expect(crc(bytes) == split)
    }
  }
}
