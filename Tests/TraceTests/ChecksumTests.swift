import CPlatform
import Chance
import Testing

@Suite struct ChecksumTests {
  private func crc(_ bytes: [UInt8]) -> UInt32 { nvmepf_crc32c(0, bytes, bytes.count) }

  @Test("CRC32C has the values of RFC 3720, B.4")
  func vectors() {
    #expect(crc(Array(repeating: 0, count: 32)) == 0x8a91_36aa)
    #expect(crc(Array(repeating: 0xff, count: 32)) == 0x62a8_ab43)
    #expect(crc(Array(0..<32)) == 0x46dd_794e)
    #expect(crc((0..<32).reversed()) == 0x113f_db5c)
    #expect(crc(Array("123456789".utf8)) == 0xe306_9283)
  }

  @Test("Every length and alignment agrees with the checksum byte by byte")
  func lengths() {
    var random = SeededGenerator(seed: 3)
    let bytes = (0..<5008).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    for start in [0, 1, 7] {
      bytes.withUnsafeBytes { bytes in
        var bytewise: UInt32 = 0
        for length in 0...5000 {
          #expect(nvmepf_crc32c(0, bytes.baseAddress! + start, length) == bytewise)
          var byte = bytes[start + length]
          bytewise = nvmepf_crc32c(bytewise, &byte, 1)
        }
      }
    }
  }

  @Test("A checksum can continue another")
  func continued() {
    var random = SeededGenerator(seed: 4)
    let bytes = (0..<4096).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    for split in stride(from: 0, through: 4096, by: 97) {
      let first = crc(Array(bytes[..<split]))
      #expect(nvmepf_crc32c(first, Array(bytes[split...]), 4096 - split) == crc(bytes))
    }
  }
}
