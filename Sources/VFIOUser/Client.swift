import CPlatform
import Glibc
import LocalSocket

/// The client side, for a user-space driver of a vfio-user device. One thread at a time uses it.
public final class Client {
  private let connection: Connection
  private var nextID: UInt16 = 0

  /// Connect to the server at `path` and agree on a version.
  public init(path: String) throws(VFIOUserError) {
    connection = Connection(try VFIOUserError.wrap(try LocalSocket.connect(path)))
    var payload = PayloadWriter(UInt16(0), UInt16(1))
    payload.put("{\"capabilities\":{\"max_msg_fds\":\(MessageLimit.descriptors)}}")
    let reply = try request(.version, payload)
    guard reply.payload.count >= 4, reply.payload[0] == 0, reply.payload[1] == 0 else {
      throw .init(.protocolViolation, "the server at \(path) uses another version of vfio-user")
    }
  }

  private func request(
    _ command: MessageCommand, _ payload: PayloadWriter = PayloadWriter(), descriptors: [Int32] = []
  ) throws(VFIOUserError) -> ReceivedMessage {
    nextID &+= 1
    try connection.send(
      MessageHeader(messageID: nextID, command: command.rawValue, size: 0), payload.bytes, descriptors: descriptors)
    guard let reply = try connection.receive() else {
      throw .init(.disconnected, "the server closed the connection")
    }
    guard reply.header.isReply, reply.header.messageID == nextID, reply.header.command == command.rawValue else {
      throw .init(.protocolViolation, "the server answered a different message")
    }
    if reply.header.isError {
      let number = Int32(truncatingIfNeeded: reply.header.error)
      throw .init(.refused(number), "the server refused \(command): \(String(cString: strerror(number)))")
    }
    return reply
  }

  /// Whether the server is still connected; callable from any thread.
  public var isConnected: Bool {
    var polled = pollfd(fd: connection.socket, events: 0, revents: 0)
    return poll(&polled, 1, 0) == 0
  }

  // MARK: Regions

  /// A region's size and its mappable parts; the caller closes `descriptor` if it is not -1.
  public func regionInfo(_ index: UInt32) throws(VFIOUserError) -> RegionDescription {
    var reply = try request(
      .deviceGetRegionInfo, PayloadWriter(UInt32(4064), UInt32(0), index, UInt32(0), UInt64(0), UInt64(0)))
    var region = RegionDescription(size: 0)
    let parsed = reply.payload.withUnsafeBytes { Client.parseRegion($0, &region) }
    let descriptors = reply.moveDescriptors()
    region.descriptor = descriptors.first ?? -1
    for descriptor in descriptors.dropFirst() { close(descriptor) }
    guard parsed else {
      if region.descriptor >= 0 { close(region.descriptor) }
      throw .init(.protocolViolation, "the server's description of region \(index) is invalid")
    }
    return region
  }

  private static func parseRegion(_ bytes: UnsafeRawBufferPointer, _ region: inout RegionDescription) -> Bool {
    var reader = PayloadReader(bytes)
    guard
      let (_, flags, _, capabilities, size, _) = reader.get(
        UInt32.self, UInt32.self, UInt32.self, UInt32.self, UInt64.self, UInt64.self)
    else { return false }
    region.size = size
    guard flags & RegionDescription.capabilities != 0, capabilities >= 32, Int(capabilities) <= bytes.count else {
      return true
    }
    var capability = PayloadReader(UnsafeRawBufferPointer(rebasing: bytes[Int(capabilities)...]))
    guard
      let (id, _, _, count, _) = capability.get(UInt16.self, UInt16.self, UInt32.self, UInt32.self, UInt32.self),
      id == RegionDescription.sparseCapability, count <= 16
    else { return false }
    for _ in 0..<count {
      guard let (offset, size) = capability.get(UInt64.self, UInt64.self) else { return false }
      region.mappable.append(.init(offset: offset, size: size))
    }
    return true
  }

  public func read(region: UInt32, offset: UInt64, count: Int) throws(VFIOUserError) -> [UInt8] {
    let reply = try request(.regionRead, PayloadWriter(offset, region, UInt32(count)))
    guard reply.payload.count == 16 + count else {
      throw .init(.protocolViolation, "the server sent \(reply.payload.count) bytes for a read of \(count)")
    }
    return Array(reply.payload[16...])
  }

  public func write(region: UInt32, offset: UInt64, _ bytes: [UInt8]) throws(VFIOUserError) {
    var payload = PayloadWriter(offset, region, UInt32(bytes.count))
    bytes.withUnsafeBytes { payload.put($0) }
    _ = try request(.regionWrite, payload)
  }

  public func read<Value: FixedWidthInteger & BitwiseCopyable>(
    region: UInt32, offset: UInt64, as: Value.Type
  ) throws(VFIOUserError) -> Value {
    let bytes = try read(region: region, offset: offset, count: MemoryLayout<Value>.size)
    return Value(littleEndian: bytes.withUnsafeBytes { $0.loadUnaligned(as: Value.self) })
  }

  public func write<Value: FixedWidthInteger & BitwiseCopyable>(
    region: UInt32, offset: UInt64, _ value: Value
  ) throws(VFIOUserError) {
    try write(region: region, offset: offset, withUnsafeBytes(of: value.littleEndian) { Array($0) })
  }

  // MARK: Memory, interrupts, reset

  /// Give the device access to `size` bytes of the shared memory `descriptor`, at `address`.
  public func mapMemory(address: UInt64, size: UInt64, descriptor: Int32, offset: UInt64 = 0) throws(VFIOUserError) {
    let payload = PayloadWriter(UInt32(32), UInt32(3), offset, address, size)
    _ = try request(.dmaMap, payload, descriptors: descriptor >= 0 ? [descriptor] : [])
  }

  public func unmapMemory(address: UInt64, size: UInt64) throws(VFIOUserError) {
    _ = try request(.dmaUnmap, PayloadWriter(UInt32(24), UInt32(0), address, size))
  }

  /// Signal these descriptors for the interrupts from `start` on; none disables the kind.
  public func setInterrupts(_ kind: InterruptKind, start: UInt32, descriptors: [Int32]) throws(VFIOUserError) {
    let data = descriptors.isEmpty ? InterruptAction.dataNone : InterruptAction.dataEventfd
    try set(InterruptAction.trigger.rawValue | data, kind, start, count: descriptors.count, descriptors)
  }

  /// An operation without data on one interrupt.
  func act(_ action: InterruptAction, _ kind: InterruptKind, index: UInt32) throws(VFIOUserError) {
    try set(action.rawValue | InterruptAction.dataNone, kind, index, count: 1)
  }

  private func set(
    _ flags: UInt32, _ kind: InterruptKind, _ start: UInt32, count: Int, _ descriptors: [Int32] = []
  ) throws(VFIOUserError) {
    let payload = PayloadWriter(UInt32(20), flags, kind.rawValue, start, UInt32(count))
    _ = try request(.deviceSetIRQs, payload, descriptors: descriptors)
  }

  public func reset() throws(VFIOUserError) { _ = try request(.deviceReset) }
}
