import CPlatform
import Glibc
import LocalSocket

/// The client side, for a user-space driver of a vfio-user device. One thread at a time uses it.
public final class Client {
  private let connection: Connection
  private var nextID: UInt16 = 0

  /// Connect to the server at `path` and agree on a version.
  public init(path: String) throws(VFIOUserError) {
    connection = Connection(
      try VFIOUserError.wrap { () throws(LocalSocketError) in try LocalSocket.connect(path) })
    var payload = PayloadWriter()
    payload.put(UInt16(0))
    payload.put(UInt16(1))
    payload.put("{\"capabilities\":{\"max_msg_fds\":\(MessageLimit.descriptors)}}")
    let reply = try request(.version, payload)
    guard reply.payload.count >= 4, reply.payload[0] == 0, reply.payload[1] == 0 else {
      throw .init(.protocolViolation, "the server at \(path) uses another version of vfio-user")
    }
  }

  private func request(_ command: MessageCommand, _ payload: PayloadWriter, descriptors: [Int32] = [])
    throws(VFIOUserError)
    -> ReceivedMessage
  {
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
    var payload = PayloadWriter()
    payload.put(UInt32(4064))
    payload.put(UInt32(0))
    payload.put(index)
    payload.put(UInt32(0))
    payload.put(UInt64(0))
    payload.put(UInt64(0))
    var reply = try request(.deviceGetRegionInfo, payload)
    let bytes = reply.payload
    var region = RegionDescription(size: 0)
    let parsed = bytes.withUnsafeBytes { Client.parseRegion($0, &region) }
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
    guard reader.get(UInt32.self) != nil, let flags: UInt32 = reader.get(), reader.get(UInt32.self) != nil,
      let capabilities: UInt32 = reader.get(), let size: UInt64 = reader.get(), reader.get(UInt64.self) != nil
    else { return false }
    region.size = size
    guard flags & RegionDescription.capabilities != 0, capabilities >= 32, Int(capabilities) <= bytes.count else {
      return true
    }
    var capability = PayloadReader(UnsafeRawBufferPointer(rebasing: bytes[Int(capabilities)...]))
    guard let id: UInt16 = capability.get(), capability.get(UInt16.self) != nil, capability.get(UInt32.self) != nil,
      id == RegionDescription.sparseCapability, let count: UInt32 = capability.get(), count <= 16,
      capability.get(UInt32.self) != nil
    else { return false }
    for _ in 0..<count {
      guard let offset: UInt64 = capability.get(), let size: UInt64 = capability.get() else { return false }
      region.mappable.append(.init(offset: offset, size: size))
    }
    return true
  }

  public func read(region: UInt32, offset: UInt64, count: Int) throws(VFIOUserError) -> [UInt8] {
    var payload = PayloadWriter()
    payload.put(offset)
    payload.put(region)
    payload.put(UInt32(count))
    let reply = try request(.regionRead, payload)
    guard reply.payload.count == 16 + count else {
      throw .init(.protocolViolation, "the server sent \(reply.payload.count) bytes for a read of \(count)")
    }
    return Array(reply.payload[16...])
  }

  public func write(region: UInt32, offset: UInt64, _ bytes: [UInt8]) throws(VFIOUserError) {
    var payload = PayloadWriter()
    payload.put(offset)
    payload.put(region)
    payload.put(UInt32(bytes.count))
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
    var payload = PayloadWriter()
    payload.put(UInt32(32))
    payload.put(UInt32(3))
    payload.put(offset)
    payload.put(address)
    payload.put(size)
    _ = try request(.dmaMap, payload, descriptors: descriptor >= 0 ? [descriptor] : [])
  }

  public func unmapMemory(address: UInt64, size: UInt64) throws(VFIOUserError) {
    var payload = PayloadWriter()
    payload.put(UInt32(24))
    payload.put(UInt32(0))
    payload.put(address)
    payload.put(size)
    _ = try request(.dmaUnmap, payload)
  }

  /// Signal these descriptors for the interrupts from `start` on; none disables the kind.
  public func setInterrupts(_ kind: InterruptKind, start: UInt32, descriptors: [Int32]) throws(VFIOUserError) {
    var payload = PayloadWriter()
    payload.put(UInt32(20))
    let data = descriptors.isEmpty ? InterruptAction.dataNone : InterruptAction.dataEventfd
    payload.put(InterruptAction.trigger.rawValue | data)
    payload.put(kind.rawValue)
    payload.put(start)
    payload.put(UInt32(descriptors.count))
    _ = try request(.deviceSetIRQs, payload, descriptors: descriptors)
  }

  /// Make the device raise an interrupt.
  public func triggerInterrupt(_ kind: InterruptKind, index: UInt32) throws(VFIOUserError) {
    try act(.trigger, kind, index: index)
  }

  /// Mask INTx.
  public func maskPin() throws(VFIOUserError) { try act(.mask, .intx, index: 0) }

  /// Unmask INTx, which is masked when it is signalled.
  public func unmaskPin() throws(VFIOUserError) { try act(.unmask, .intx, index: 0) }

  /// An operation without data on one interrupt.
  func act(_ action: InterruptAction, _ kind: InterruptKind, index: UInt32) throws(VFIOUserError) {
    var payload = PayloadWriter()
    payload.put(UInt32(20))
    payload.put(action.rawValue | InterruptAction.dataNone)
    payload.put(kind.rawValue)
    payload.put(index)
    payload.put(UInt32(1))
    _ = try request(.deviceSetIRQs, payload)
  }

  public func reset() throws(VFIOUserError) { _ = try request(.deviceReset, PayloadWriter()) }
}
