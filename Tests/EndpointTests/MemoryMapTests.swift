import Chance
import Glibc
import NVMe
import Testing

@testable import Device

/// Host memory in several mappings, some adjacent, against a model of its bytes.
@Suite("The memory map")
struct MemoryMapTests {
  private static let pieceBytes = 512
  private static let pieces = 32
  private static let address: UInt64 = 1 << 32
  private static let guardByte: UInt8 = 0xa5

  /// Every mapping lies elsewhere in this process, between bytes that must not be accessed.
  private struct Memory: ~Copyable {
    let bytes: UnsafeMutableRawPointer
    var map = MemoryMap()
    var isMapped = [Bool](repeating: false, count: MemoryMapTests.pieces)
    var isWritable = [Bool](repeating: false, count: MemoryMapTests.pieces)
    /// What each address holds.
    var model = [UInt8](repeating: 0, count: MemoryMapTests.pieces * MemoryMapTests.pieceBytes)

    init() {
      bytes = .allocate(byteCount: 2 * model.count, alignment: 16)
      bytes.initializeMemory(as: UInt8.self, repeating: MemoryMapTests.guardByte, count: 2 * model.count)
    }

    deinit { bytes.deallocate() }

    /// Where a piece lies: in the middle of twice as much, the last piece first.
    func place(_ piece: Int) -> UnsafeMutableRawPointer {
      bytes + (MemoryMapTests.pieces - 1 - piece) * 2 * MemoryMapTests.pieceBytes + MemoryMapTests.pieceBytes / 2
    }

    mutating func toggle(_ piece: Int, isWritable: Bool) {
      let (address, count) = (
        MemoryMapTests.address + UInt64(piece * MemoryMapTests.pieceBytes), MemoryMapTests.pieceBytes
      )
      isMapped[piece].toggle()
      self.isWritable[piece] = isWritable
      guard isMapped[piece] else { return map.remove(address: address, length: UInt64(count)) }
      let isAdded = map.add(
        MemoryMap.Range(
          address: address, length: UInt64(count), base: place(piece), writable: isWritable, mapping: place(piece),
          mapping_length: UInt64(count)))
      #expect(isAdded)
      place(piece).copyMemory(
        from: Array(model[(piece * count)..<((piece + 1) * count)]), byteCount: count)
    }

    /// Whether the host has all of these bytes.
    func has(_ offset: Int, _ count: Int, forWriting: Bool) -> Bool {
      guard offset >= 0, offset + count <= model.count else { return false }
      return (offset / MemoryMapTests.pieceBytes...(offset + count - 1) / MemoryMapTests.pieceBytes).allSatisfy {
        isMapped[$0] && (isWritable[$0] || !forWriting)
      }
    }

    /// Whether the pieces hold what the model says, and the bytes around them what they held.
    func isTrue() -> Bool {
      let count = MemoryMapTests.pieceBytes
      return isMapped.indices.allSatisfy { piece in
        let around = UnsafeRawBufferPointer(start: place(piece) - count / 2, count: 2 * count)
        let inside = UnsafeRawBufferPointer(start: place(piece), count: count)
        return around[..<(count / 2)].allSatisfy { $0 == MemoryMapTests.guardByte }
          && around[(count / 2 * 3)...].allSatisfy { $0 == MemoryMapTests.guardByte }
          && (!isMapped[piece] || inside.elementsEqual(model[(piece * count)..<((piece + 1) * count)]))
      }
    }
  }

  @Test("reaches mapped memory, across adjacent mappings, and nothing else", arguments: 0..<16 as Range<UInt64>)
  func agrees(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var memory = Memory()
    var buffer = [UInt8](repeating: 0, count: 4 * MemoryMapTests.pieceBytes)
    for _ in 0..<4000 {
      if random.next() % 8 == 0 {
        memory.toggle(Int(random.next() % UInt64(MemoryMapTests.pieces)), isWritable: random.next() % 4 != 0)
      }
      let count = 1 + Int(random.next() % UInt64(buffer.count))
      let offset = Int(random.next() % UInt64(memory.model.count + 512)) - 256
      let address = PCIAddress(
        random.next() % 32 == 0 ? random.next() | 1 << 63 : MemoryMapTests.address &+ UInt64(bitPattern: Int64(offset)))
      let isInside = address.rawValue >> 63 == 0
      if random.next() % 2 == 0 {
        let isThere = isInside && memory.has(offset, count, forWriting: false)
        #expect(memory.map.reaches(address, count: count, forWriting: false) == isThere)
        #expect(memory.map.read(address, into: &buffer, count: count) == isThere)
        if isThere { #expect(buffer[..<count] == memory.model[offset..<(offset + count)]) }
      } else {
        for index in 0..<count { buffer[index] = UInt8(truncatingIfNeeded: random.next()) }
        let isThere = isInside && memory.has(offset, count, forWriting: true)
        #expect(memory.map.write(address, buffer, count: count) == isThere)
        if isThere { memory.model.replaceSubrange(offset..<(offset + count), with: buffer[..<count]) }
      }
    }
    let isTrue = memory.isTrue()
    #expect(isTrue)
  }
}
