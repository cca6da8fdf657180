import NVMe
import Target

/// A command whose data the engine itself reads and interprets.
struct Receiver {
  private let sqe: SubmissionEntry
  private let contents: Contents
  /// Where the next pieces of its SGL are.
  private var lists: [(address: UInt64, length: UInt64)] = []

  /// What its data consists of.
  private enum Contents {
    case ranges
    case copyRanges
    case reservationKeys
    case hostIdentifier
    case timestamp
    /// Fields of the first bytes, of which none identifies anybody.
    case hostBehaviour
  }

  /// - Returns: nil if the engine does not read its data.
  init?(_ sqe: SubmissionEntry, isAdmin: Bool) {
    guard let contents = isAdmin ? Receiver.feature(sqe) : Receiver.contents(IOOpcode(rawValue: sqe.opcode)) else {
      return nil
    }
    (self.sqe, self.contents) = (sqe, contents)
    if !isAdmin, sqe.psdt != 0 { expect(sqe.sgl1) }
  }

  private static func contents(_ opcode: IOOpcode?) -> Contents? {
    switch opcode {
    case .datasetManagement: .ranges
    case .copy: .copyRanges
    case .reservationRegister, .reservationAcquire, .reservationRelease: .reservationKeys
    default: nil
    }
  }

  private static func feature(_ sqe: SubmissionEntry) -> Contents? {
    guard sqe.opcode == AdminOpcode.setFeatures.rawValue else { return nil }
    switch FeatureID(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)) {
    case .hostIdentifier: return .hostIdentifier
    case .timestamp: return .timestamp
    case .hostBehaviorSupport: return .hostBehaviour
    default: return nil
    }
  }

  // MARK: Lists

  private mutating func expect(_ descriptor: SGLDescriptor) {
    guard descriptor.kind == .segment || descriptor.kind == .lastSegment else { return }
    lists.append((descriptor.address, UInt64(descriptor.length)))
  }

  /// Whether bytes that the engine read are a part of the command's SGL, not of its data.
  mutating func consumesList(_ address: UInt64, _ bytes: UnsafeRawBufferPointer) -> Bool {
    guard lists.contains(where: { address >= $0.address && address - $0.address < $0.length }) else { return false }
    for place in stride(from: 0, through: bytes.count - SGLDescriptor.size, by: SGLDescriptor.size)
    where lists.count < Receiver.listsMax {
      expect(bytes.loadUnaligned(fromByteOffset: place, as: SGLDescriptor.self))
    }
    return true
  }

  /// The engine reads no more descriptors than that.
  private static let listsMax = 1024

  // MARK: Data

  /// Replace the values in the data, as far as it was read. Reserved fields become zero.
  func replace(_ data: inout [UInt8], _ pseudonyms: Pseudonyms) {
    let read = data
    data = [UInt8](repeating: 0, count: read.count)
    read.withUnsafeBytes { read in
      data.withUnsafeMutableBytes { data in replace(read, data, pseudonyms) }
    }
  }

  private func replace(
    _ read: UnsafeRawBufferPointer, _ data: UnsafeMutableRawBufferPointer, _ pseudonyms: Pseudonyms
  ) {
    func word(_ place: Int) -> UInt64 { read.loadUnaligned(fromByteOffset: place, as: UInt64.self) }
    func keep(_ places: Range<Int>) {
      let places = places.clamped(to: 0..<read.count)
      UnsafeMutableRawBufferPointer(rebasing: data[places]).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: read[places]))
    }
    switch contents {
    case .ranges:
      for place in stride(from: 0, through: read.count - 16, by: 16) {
        keep(place + 4..<place + 8)
        let blocks = read.loadUnaligned(fromByteOffset: place + 4, as: UInt32.self)
        data.storeBytes(
          of: pseudonyms.map(slba: word(place + 8), blocks: UInt64(blocks)), toByteOffset: place + 8, as: UInt64.self)
      }
    case .copyRanges:
      var total: UInt64 = 0
      for place in stride(from: 0, through: read.count - 32, by: 32) {
        keep(place + 16..<place + 18)
        let blocks = UInt64(read.loadUnaligned(fromByteOffset: place + 16, as: UInt16.self)) + 1
        data.storeBytes(
          of: pseudonyms.map(slba: word(place + 8), blocks: blocks), toByteOffset: place + 8, as: UInt64.self)
        total += blocks
      }
      _ = pseudonyms.map(slba: sqe.slba, blocks: total)
    case .reservationKeys, .hostIdentifier:
      for place in stride(from: 0, through: read.count - 8, by: 8) {
        data.storeBytes(of: pseudonyms.map(word: word(place)), toByteOffset: place, as: UInt64.self)
      }
    case .timestamp:
      guard read.count >= 8 else { return }
      data.storeBytes(of: pseudonyms.map(timestampMs: word(0)), toByteOffset: 0, as: UInt64.self)
    case .hostBehaviour: keep(0..<8)
    }
  }
}
