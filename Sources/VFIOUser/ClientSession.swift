import Glibc
import Platform

/// The session with one client: its messages, its memory, its interrupt descriptors.
struct ClientSession: ~Copyable {
  private let connection: Connection
  private var memory = DMATable()
  private var interrupts: [InterruptSlot: Int32] = [:]
  private var negotiated = false
  private var hasToldUnshared = false
  private var hasToldRefusal = false
  private let tell: @Sendable (ServingEvent) -> Void

  private struct InterruptSlot: Hashable {
    let kind: InterruptKind
    let index: UInt32
  }

  /// A reply's payload and descriptors, or an errno instead.
  private enum Reply {
    case payload([UInt8], descriptors: [Int32] = [])
    case error(Int32)

    static let done = Reply.payload([])
  }

  init(_ connection: consuming Connection, tell: @escaping @Sendable (ServingEvent) -> Void) {
    self.connection = connection
    self.tell = tell
  }

  deinit { for descriptor in interrupts.values { close(descriptor) } }

  /// Receive one message and answer it.
  /// - Returns: false if the client has disconnected.
  mutating func handleNext(_ device: some Device) throws(VFIOUserError) -> Bool {
    do throws(VFIOUserError) {
      guard var message = try connection.receive() else { return false }
      let header = message.header
      guard !header.isReply else { throw .init(.protocolViolation, "the client sent a reply without a request") }
      let reply = answer(&message, device)
      if header.wantsReply { try send(reply, to: header) }
      if !negotiated { throw .init(.protocolViolation, "the client did not start with a version 0.x") }
      return true
    } catch  where error.kind == .disconnected {
      return false
    }
  }

  private func send(_ reply: Reply, to header: MessageHeader) throws(VFIOUserError) {
    var own = MessageHeader(
      messageID: header.messageID, command: header.command, size: 0, flags: MessageHeader.replyType)
    switch reply {
    case .payload(let payload, let descriptors): try connection.send(own, payload, descriptors: descriptors)
    case .error(let number):
      own.flags |= MessageHeader.errorFlag
      own.error = UInt32(number)
      try connection.send(own, [])
    }
  }

  private mutating func answer(_ message: inout ReceivedMessage, _ device: some Device) -> Reply {
    let payload = message.payload
    return payload.withUnsafeBytes { bytes in
      var reader = PayloadReader(bytes)
      guard let command = MessageCommand(rawValue: message.header.command) else { return .error(ENOTSUP) }
      guard negotiated || command == .version else { return .error(EINVAL) }
      // The request for these descriptors cannot be fulfilled.
      guard !message.isCut else { return .error(EMFILE) }
      switch command {
      case .version: return version(&reader)
      case .dmaMap: return map(&reader, &message, device)
      case .dmaUnmap: return unmap(&reader, device)
      case .deviceGetInfo: return deviceInfo(&reader)
      case .deviceGetRegionInfo: return regionInfo(&reader, device)
      case .deviceGetIRQInfo: return interruptInfo(&reader, device)
      case .deviceSetIRQs: return setInterrupts(&reader, &message, device)
      case .regionRead: return regionRead(&reader, device)
      case .regionWrite: return regionWrite(&reader, device)
      case .deviceReset:
        device.reset()
        return .done
      case .deviceGetRegionIOFds, .dmaRead, .dmaWrite: return .error(ENOTSUP)
      }
    }
  }

  // MARK: Version and memory

  /// Major 0, and the lower of both minors: a higher one would be refused (vfio-user specification, "Version").
  private mutating func version(_ reader: inout PayloadReader) -> Reply {
    guard !negotiated, let (major, minor) = reader.get(UInt16.self, UInt16.self), major == 0 else {
      return .error(EINVAL)
    }
    negotiated = true
    tell(.negotiated(minor: min(minor, 1)))
    var reply = PayloadWriter(UInt16(0), min(minor, 1))
    reply.put(
      """
      {"capabilities":{"max_msg_fds":\(MessageLimit.descriptors),"max_data_xfer_size":\(MessageLimit.dataBytes)}}
      """)
    return .payload(reply.bytes)
  }

  private mutating func map(
    _ reader: inout PayloadReader, _ message: inout ReceivedMessage, _ device: some Device
  ) -> Reply {
    guard message.descriptors.count <= 1,
      let (_, flags, offset, address, size) = reader.get(
        UInt32.self, UInt32.self, UInt64.self, UInt64.self, UInt64.self)
    else { return .error(EINVAL) }
    let descriptors = message.moveDescriptors()
    defer { for descriptor in descriptors { close(descriptor) } }
    let (error, mapping) = memory.map(
      address: address, size: size, writable: flags & 2 != 0, descriptor: descriptors.first ?? -1, offset: offset)
    guard let mapping else {
      if error == EOPNOTSUPP, !hasToldRefusal {
        hasToldRefusal = true
        tell(.memoryRefused(address: address, size: size))
      }
      return .error(error)
    }
    // Beside shared memory it is no memory: QEMU maps the registers of a guest's other devices, too.
    if mapping.base == nil, mapping.isWritable, !memory.isShared, !hasToldUnshared {
      hasToldUnshared = true
      tell(.memoryNotShared(address: address, size: size))
    }
    guard device.map(mapping) else {
      memory.unmap(address: address)
      return .error(ENOSPC)
    }
    return .done
  }

  private mutating func unmap(_ reader: inout PayloadReader, _ device: some Device) -> Reply {
    guard let (argsz, flags, address, size) = reader.get(UInt32.self, UInt32.self, UInt64.self, UInt64.self) else {
      return .error(EINVAL)
    }
    let unmapAll: UInt32 = 2
    guard flags & ~unmapAll == 0 else { return .error(ENOTSUP) }
    if flags & unmapAll != 0 {
      guard address == 0, size == 0 else { return .error(EINVAL) }
      for range in memory.ranges { unmap(range.address, range.size, device) }
    } else {
      guard memory.contains(address: address, size: size) else { return .error(ENOENT) }
      unmap(address, size, device)
    }
    return .payload(PayloadWriter(argsz, flags, address, size).bytes)
  }

  private mutating func unmap(_ address: UInt64, _ size: UInt64, _ device: some Device) {
    device.unmap(address: address, size: size)
    memory.unmap(address: address)
  }

  // MARK: Description

  private func deviceInfo(_ reader: inout PayloadReader) -> Reply {
    guard let argsz = reader.get(UInt32.self), argsz >= 16 else { return .error(EINVAL) }
    let resetAndPCI: UInt32 = 0b11
    let interrupts = UInt32(InterruptKind.allCases.count)
    return .payload(PayloadWriter(UInt32(16), resetAndPCI, UInt32(PCIRegion.count), interrupts).bytes)
  }

  /// With its capabilities if the client has made room for them; else the client learns the required size, and their
  /// offset: QEMU refuses a region that has capabilities at 0.
  private func regionInfo(_ reader: inout PayloadReader, _ device: some Device) -> Reply {
    let regions = device.regions
    guard let (argsz, _, index) = reader.get(UInt32.self, UInt32.self, UInt32.self), argsz >= 32,
      Int(index) < regions.count
    else { return .error(EINVAL) }
    let region = regions[Int(index)]
    let needed = 32 + (region.mappable.isEmpty ? 0 : 16 + 16 * region.mappable.count)
    let hasCapabilities = needed > 32
    var reply = PayloadWriter(
      UInt32(needed), region.flags, index, UInt32(hasCapabilities ? 32 : 0), region.size, UInt64(0))
    guard hasCapabilities, Int(argsz) >= needed else { return .payload(reply.bytes) }
    let count = region.mappable.count
    reply.put(RegionDescription.sparseCapability, UInt16(1), UInt32(0), UInt32(count), UInt32(0))
    for area in region.mappable { reply.put(area.offset, area.size) }
    return .payload(reply.bytes, descriptors: [Int32](repeating: region.descriptor, count: count))
  }

  // MARK: Interrupts

  private func interruptInfo(_ reader: inout PayloadReader, _ device: some Device) -> Reply {
    guard let (argsz, _, index) = reader.get(UInt32.self, UInt32.self, UInt32.self), argsz >= 16,
      let kind = InterruptKind(rawValue: index)
    else { return .error(EINVAL) }
    let eventfd: UInt32 = 1
    let maskable: UInt32 = 2
    let automasked: UInt32 = 4
    let noResize: UInt32 = 8
    let flags = kind == .intx ? eventfd | maskable | automasked : eventfd | noResize
    return .payload(PayloadWriter(UInt32(16), flags, index, device.interruptCount(kind)).bytes)
  }

  private mutating func setInterrupts(
    _ reader: inout PayloadReader, _ message: inout ReceivedMessage, _ device: some Device
  ) -> Reply {
    guard
      let (_, flags, index, start, count) = reader.get(
        UInt32.self, UInt32.self, UInt32.self, UInt32.self, UInt32.self),
      let kind = InterruptKind(rawValue: index), let action = InterruptAction(rawValue: flags & 0x38)
    else { return .error(EINVAL) }
    let total = device.interruptCount(kind)
    guard start <= total, count <= total - start else { return .error(EINVAL) }
    switch (action, flags & 7) {
    // The server masks nothing through a client's descriptor: it refuses, and the client sends messages instead.
    case (.mask, InterruptAction.dataNone), (.unmask, InterruptAction.dataNone):
      guard kind == .intx else { return .error(EINVAL) }
      if count > 0 { device.setPinMask(isMasked: action == .mask) }
      return .done
    case (.mask, InterruptAction.dataBool), (.unmask, InterruptAction.dataBool):
      guard kind == .intx, reader.rest.count >= Int(count) else { return .error(EINVAL) }
      if count > 0, reader.rest[0] != 0 { device.setPinMask(isMasked: action == .mask) }
      return .done
    case (.trigger, InterruptAction.dataNone):
      if count == 0 {
        disableInterrupts(kind, device)
      } else {
        for offset in 0..<count { device.trigger(kind, index: start + offset) }
      }
      return .done
    case (.trigger, InterruptAction.dataBool):
      guard reader.rest.count >= Int(count) else { return .error(EINVAL) }
      for offset in 0..<count where reader.rest[Int(offset)] != 0 { device.trigger(kind, index: start + offset) }
      return .done
    case (.trigger, InterruptAction.dataEventfd):
      guard message.descriptors.count <= Int(count) else { return .error(EINVAL) }
      let descriptors = message.moveDescriptors()
      guard descriptors.allSatisfy(EventDescriptor.isValid) else {
        for descriptor in descriptors { close(descriptor) }
        return .error(EINVAL)
      }
      var error: Int32 = 0
      for offset in 0..<count {
        let descriptor = Int(offset) < descriptors.count ? descriptors[Int(offset)] : -1
        let result = setInterrupt(InterruptSlot(kind: kind, index: start + offset), descriptor, device)
        if error == 0 { error = result }
      }
      return error == 0 ? .done : .error(error)
    default: return .error(EINVAL)
    }
  }

  /// - Returns: 0, or an errno; the interrupt is then not signalled at all.
  private mutating func setInterrupt(_ slot: InterruptSlot, _ descriptor: Int32, _ device: some Device) -> Int32 {
    let error = device.setInterrupt(slot.kind, index: slot.index, descriptor: descriptor)
    if let old = interrupts.removeValue(forKey: slot) { close(old) }
    guard descriptor >= 0 else { return error }
    if error == 0 { interrupts[slot] = descriptor } else { close(descriptor) }
    return error
  }

  private mutating func disableInterrupts(_ kind: InterruptKind, _ device: some Device) {
    for slot in interrupts.keys where slot.kind == kind { _ = setInterrupt(slot, -1, device) }
  }

  // MARK: Region access

  /// The range of an access, checked against its region.
  private func access(_ reader: inout PayloadReader, _ device: some Device) -> (UInt64, UInt32, Int)? {
    guard let (offset, region, count) = reader.get(UInt64.self, UInt32.self, UInt32.self),
      Int(region) < PCIRegion.count, count > 0, count <= MessageLimit.dataBytes
    else { return nil }
    let size = device.regions[Int(region)].size
    guard offset <= size, UInt64(count) <= size - offset else { return nil }
    return (offset, region, Int(count))
  }

  private func regionRead(_ reader: inout PayloadReader, _ device: some Device) -> Reply {
    guard let (offset, region, count) = access(&reader, device) else { return .error(EINVAL) }
    var reply = PayloadWriter(offset, region, UInt32(count))
    var bytes = [UInt8](repeating: 0, count: count)
    guard bytes.withUnsafeMutableBytes({ device.read(region: region, offset: offset, into: $0) }) else {
      return .error(EINVAL)
    }
    bytes.withUnsafeBytes { reply.put($0) }
    return .payload(reply.bytes)
  }

  private func regionWrite(_ reader: inout PayloadReader, _ device: some Device) -> Reply {
    guard let (offset, region, count) = access(&reader, device), reader.rest.count >= count,
      device.write(region: region, offset: offset, UnsafeRawBufferPointer(rebasing: reader.rest[..<count]))
    else { return .error(EINVAL) }
    return .payload(PayloadWriter(offset, region, UInt32(count)).bytes)
  }
}
