import Chance
import EventTable
import Foundation
import Testing
import Trace

@_spi(Places) @testable import Events
@testable import Probe

extension ProbeRecord {
  /// By the names that bpf/emit.h has for them.
  fileprivate static var places: [String: PartialKeyPath<ProbeRecord>] {
    [
      "time": \.time, "lost": \.lost, "a": \.a, "b": \.b, "qid": \.qid, "cid": \.cid, "controller": \.controller,
      "kind": \.kind, "flags": \.flags, "length": \.length, "role": \.role, "generation": \.generation,
      "padding": \.padding,
    ]
  }
}

@Suite struct RawEventTests {
  /// An event as the kernel writes it.
  private func raw(
    kind: EventKind, flags: UInt8 = 0, b: UInt64 = 0, role: UInt8 = 0, length: UInt32, bytes: [UInt8] = []
  )
    -> [UInt8]
  {
    var raw = [UInt8](repeating: 0, count: ProbeRecord.size)
    func put<T: FixedWidthInteger>(_ value: T, at offset: Int) {
      withUnsafeBytes(of: value.littleEndian) { for (index, byte) in $0.enumerated() { raw[offset + index] = byte } }
    }
    put(UInt64(1234), at: 0)
    put(UInt64(5), at: 8)
    put(UInt64(0xabc), at: 16)
    put(b, at: 24)
    put(UInt16(3), at: 32)
    put(UInt16(0x7001), at: 34)
    put(UInt16(2), at: 36)
    raw[38] = kind.rawValue
    raw[39] = flags
    put(length, at: 40)
    raw[44] = role
    return raw + bytes
  }

  @Test("An event is what the kernel wrote, with its bytes")
  func decodes() throws {
    let bytes = (0..<64).map { UInt8($0) }
    try raw(kind: .fetch, b: 77, length: 64, bytes: bytes).withUnsafeBytes {
      let event = try #require(RawEvent($0))
      #expect(event.time == 1234 && event.lost == 5)
      #expect(event.origin == Origin(role: .target, controller: 2))
      #expect(event.record.event == .fetch && event.record.qid == 3 && event.record.cid == 0x7001)
      #expect(event.record.a == 0xabc && event.record.b == 77)
      #expect(Array(event.bytes) == bytes)
    }
    try raw(kind: .read, b: 9 << 32, role: 1, length: 8, bytes: Array(bytes[..<8])).withUnsafeBytes {
      let event = try #require(RawEvent($0))
      #expect(event.record.flags & Record.carriesBytesFlag != 0 && event.record.bLow == 8 && event.record.bHigh == 9)
      #expect(event.origin.role == .host)
    }
  }

  @Test("The layout is that of struct event in bpf/emit.h")
  func layout() throws {
    let source = try String(
      contentsOfFile: #filePath.replacing("Tests/ProbeTests/RawEventTests.swift", with: "bpf/emit.h"), encoding: .utf8)
    let body = try #require(source.components(separatedBy: "struct event {").dropFirst().first?.prefix { $0 != "}" })
    var offset = 0
    for line in body.split(separator: "\n") {
      let words = line.split { " \t;[]".contains($0) }
      guard let type = words.first, let width = Int(type.dropFirst()).map({ $0 / 8 }), words.count > 1 else { continue }
      let place = MemoryLayout<ProbeRecord>.offset(of: try #require(ProbeRecord.places[String(words[1])]))
      #expect(place == offset, "\(words[1])")
      offset += width * (words.count > 2 ? Int(words[2]) ?? 1 : 1)
    }
    #expect(offset == ProbeRecord.size && MemoryLayout<ProbeRecord>.size == ProbeRecord.size)
  }

  @Test("A truncated event, an unknown kind or a wrong length is refused")
  func refuses() {
    let whole = raw(kind: .fetch, length: 64, bytes: [UInt8](repeating: 1, count: 64))
    for count in 0..<whole.count {
      whole[..<count].withUnsafeBytes { #expect(RawEvent($0) == nil) }
    }
    raw(kind: .segment, length: 4, bytes: [1, 2, 3, 4]).withUnsafeBytes { #expect(RawEvent($0) == nil) }
    raw(kind: .segment, role: 2, length: 0).withUnsafeBytes { #expect(RawEvent($0) == nil) }
    var unknown = raw(kind: .segment, length: 0)
    unknown[38] = 250
    unknown.withUnsafeBytes { #expect(RawEvent($0) == nil) }
  }

  @Test("Whatever the bytes, an event fits its kind", arguments: 0..<200 as Range<UInt64>)
  func hostile(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var bytes = (0..<Int.random(in: 0...300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
    if bytes.count > 44 {
      bytes[38] = EventKind.allCases.randomElement(using: &random)!.rawValue
      bytes[40...43] = [UInt8.random(in: 0...255, using: &random), 0, 0, 0]
      bytes[44] &= 1
    }
    bytes.withUnsafeBytes {
      guard let event = RawEvent($0), let kind = event.record.event else { return }
      #expect(kind.description.carriesBytes || event.bytes.count == kind.description.fixedTailBytes)
    }
  }

  @Test("The embedded program is an object for the kernel's machine")
  func isEmbedded() {
    let bytes = ProbeObject.bytes
    // ELF, 64 bits, little-endian, EM_BPF.
    #expect(bytes.count > 10_000 && Array(bytes[..<6]) == [0x7f, 0x45, 0x4c, 0x46, 2, 1])
    #expect(bytes[18] == 247 && bytes[19] == 0)
  }
}
