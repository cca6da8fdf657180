import Endpoint
import Events
import NVMe
import Target
import Trace

/// Replaces values in the events of one stream, in order. Bytes that the engine wrote become zeros.
struct PseudonymousStream {
  private let id: StreamID
  private let pseudonyms: Pseudonyms
  /// Commands whose data the engine reads and that are not complete.
  private var receivers: [Name: Receiver] = [:]
  /// The command whose data is being read, and where its pieces are.
  private var receiving: (receiver: Receiver, pieces: [Range<Int>])?
  /// Events are lost, and the commands of what follows are not known until the next checkpoint.
  private var isUncertain = false
  private let state = UnsafeMutableRawBufferPointer.allocate(byteCount: Controller.checkpointBytesMax, alignment: 16)

  /// The engine has fewer commands in flight.
  private static let receiversMax = 1 << 16

  private struct Name: Hashable {
    let qid: UInt16
    let cid: UInt16
  }

  init(_ id: StreamID, _ pseudonyms: Pseudonyms) { (self.id, self.pseudonyms) = (id, pseudonyms) }

  func deallocate() { state.deallocate() }

  /// The data of a command is not complete: more events must follow before the bytes so far are final.
  var isReceiving: Bool { receiving != nil }

  /// Append an event with its tail to `slots`.
  /// - Throws: `.damaged` if a checkpoint or a namespace cannot be decoded.
  mutating func append(_ record: UnsafePointer<Record>, to slots: inout [Record]) throws(TraceError) {
    guard record.pointee.hasTailOfItsKind, let kind = record.pointee.event else { return }
    if kind != .read && kind != .fault && kind != .ringWait { finishReceiving(&slots) }
    switch kind {
    case .fetch, .entry: appendEntry(record, kind, to: &slots)
    case .read: appendRead(record, to: &slots)
    case .write: slots.append(record.pointee, bytes: [UInt8](repeating: 0, count: record.bytes?.count ?? 0))
    case .stateHash: slots.append(withoutHash(Event.StateHash(record.pointee)), tail: record.tail)
    case .payload: slots.append(withoutData(Event.Payload(record.pointee)), bytes: [])
    case .checkpoint: try appendCheckpoint(record, to: &slots)
    case .namespace: try appendNamespace(record, to: &slots)
    case .origin: appendOrigin(record, to: &slots)
    default: slots.append(simple(record.pointee, kind), tail: record.tail)
    }
    if kind == .completion { forget(Event.Completion(record.pointee)) }
    if kind == .gap { isUncertain = true }
  }

  /// No more events follow.
  mutating func finish(_ slots: inout [Record]) { finishReceiving(&slots) }

  // MARK: Events without bytes

  private func simple(_ record: Record, _ kind: EventKind) -> Record {
    switch kind {
    case .executeBegin:
      var event = Event.ExecuteBegin(record)
      guard hasBlocks(event.opcode, event.qid) else { return record }
      event.slba = pseudonyms.map(slba: event.slba, blocks: UInt64(event.blocks))
      return event.record
    case .request:
      var event = Event.Request(record)
      guard hasBlocks(event.opcode, event.qid) else { return record }
      event.slba = pseudonyms.map(slba: event.slba, blocks: UInt64(event.blocks))
      return event.record
    case .submit:
      var event = Event.Submit(record)
      // Only the kernel's host knows the block here.
      guard id.source == .kernel, hasBlocks(event.opcode, event.qid) else { return record }
      event.slba = pseudonyms.map(slba: event.slba, blocks: 0)
      return event.record
    case .block:
      var event = Event.Block(record)
      event.sector = pseudonyms.map(sector: event.sector, sectors: UInt64(event.length) / 512)
      return event.record
    default: return record
    }
  }

  private func hasBlocks(_ opcode: UInt8, _ qid: UInt16) -> Bool {
    qid != 0 && IOOpcode(rawValue: opcode)?.hasStartingBlock == true
  }

  /// The state has other values. A replay gives their hash.
  private func withoutHash(_ event: Event.StateHash) -> Record {
    var event = event
    (event.hash, event.length) = (0, 0)
    return event.record
  }

  private func withoutData(_ payload: Event.Payload) -> Record {
    var payload = payload
    payload.flags.remove(.bytes)
    payload.digest = 0
    return payload.record
  }

  // MARK: Commands

  private mutating func appendEntry(_ record: UnsafePointer<Record>, _ kind: EventKind, to slots: inout [Record]) {
    guard let sqe = record.fixedTail(as: SubmissionEntry.self) else { return }
    let isFetched = kind == .fetch && !Event.Fetch(record.pointee).flags.contains(.failed)
    let name = Name(qid: record.pointee.qid, cid: sqe.cid.rawValue)
    if isFetched, receivers.count < PseudonymousStream.receiversMax || receivers[name] != nil {
      receivers[name] = Receiver(sqe, isAdmin: name.qid == 0)
    }
    var mapped = pseudonyms.replaced(sqe, qid: QueueID(name.qid))
    withUnsafeBytes(of: &mapped) { slots.append(record.pointee, tail: $0) }
  }

  private mutating func forget(_ completion: Event.Completion) {
    receivers[Name(qid: completion.sqid, cid: completion.cid)] = nil
  }

  private mutating func appendRead(_ record: UnsafePointer<Record>, to slots: inout [Record]) {
    let event = Event.Read(record.pointee)
    guard let bytes = record.bytes else { return slots.append(record.pointee, tail: record.tail) }
    let receiver = receivers[Name(qid: event.qid, cid: event.cid)]
    if isUncertain && receiver == nil {
      return slots.append(record.pointee, bytes: [UInt8](repeating: 0, count: bytes.count))
    }
    slots.append(record.pointee, bytes: Array(bytes))
    guard var receiver, !receiver.consumesList(event.address, bytes) else {
      receivers[Name(qid: event.qid, cid: event.cid)] = receiver
      return
    }
    let begin = (slots.count - Record.slots(bytes.count)) * Record.size
    receiving = (receiver, (receiving?.pieces ?? []) + [begin..<begin + bytes.count])
    receivers[Name(qid: event.qid, cid: event.cid)] = receiver
  }

  /// The pieces together are the command's data: replace the values in it.
  private mutating func finishReceiving(_ slots: inout [Record]) {
    guard let (receiver, pieces) = receiving else { return }
    receiving = nil
    slots.withUnsafeMutableBytes { slots in
      var data = pieces.flatMap { slots[$0] }
      receiver.replace(&data, pseudonyms)
      var done = 0
      for piece in pieces {
        UnsafeMutableRawBufferPointer(rebasing: slots[piece]).copyBytes(from: data[done..<done + piece.count])
        done += piece.count
      }
    }
  }

  // MARK: Events with bytes

  private mutating func appendCheckpoint(_ record: UnsafePointer<Record>, to slots: inout [Record]) throws(TraceError) {
    guard let bytes = record.bytes else { return slots.append(record.pointee, bytes: []) }
    var commands: [Name: Receiver] = [:]
    pseudonyms.onCommand = {
      commands[Name(qid: $1.rawValue, cid: $0.cid.rawValue)] = Receiver($0, isAdmin: $1 == .admin)
    }
    defer { pseudonyms.onCommand = nil }
    do throws(CheckpointError) {
      var controller = try Controller.decode(bytes, pseudonyms)
      let count = controller.encode(into: state)
      var event = Event.Checkpoint(record.pointee)
      event.length = UInt32(count)
      slots.append(event.record, bytes: Array(state[..<count]))
    } catch .unknownVersion(let version) {
      throw TraceError(
        .otherVersion,
        "its checkpoints have layout \(version) and this nvmepf knows layout \(Controller.stateVersion): use the build that "
          + "recorded it")
    } catch {
      throw TraceError(.damaged, "a checkpoint is damaged: cut the trace before or after it")
    }
    if isUncertain { receivers = [:] }
    receivers.merge(commands) { $1 }
    isUncertain = false
  }

  private func appendNamespace(_ record: UnsafePointer<Record>, to slots: inout [Record]) throws(TraceError) {
    guard let bytes = record.bytes else { return slots.append(record.pointee, bytes: []) }
    guard let namespace = try? Namespace.decode(bytes) else {
      throw TraceError(.damaged, "a namespace event is damaged: cut the trace before or after it")
    }
    let mapped = pseudonyms.map(namespace)
    var event = Event.Namespace(record.pointee)
    withUnsafeTemporaryAllocation(byteCount: Namespace.encodedBytesMax, alignment: 8) { bytes in
      let count = mapped.encode(into: bytes)
      event.length = UInt32(count)
      slots.append(event.record, bytes: Array(bytes[..<count]))
    }
  }

  private func appendOrigin(_ record: UnsafePointer<Record>, to slots: inout [Record]) {
    var event = Event.Origin(record.pointee)
    let name = record.bytes.map { pseudonyms.map(nqn: Array($0)) } ?? []
    if !event.flags.contains(.host), event.controller != .max { pseudonyms.controllers.insert(event.controller) }
    event.length = UInt32(name.count)
    if name.isEmpty { event.flags.remove(.bytes) }
    slots.append(event.record, bytes: name)
  }
}

extension [Record] {
  /// Append an event that carries these bytes.
  fileprivate mutating func append(_ record: Record, bytes: [UInt8]) {
    bytes.withUnsafeBytes { append(record, tail: $0) }
  }

  /// Append an event with its tail, and zeros up to a whole slot.
  fileprivate mutating func append(_ record: Record, tail: UnsafeRawBufferPointer) {
    let count = Record.slots(tail.count)
    var record = record
    record.tail = UInt16(truncatingIfNeeded: count)
    append(record)
    let begin = self.count
    append(contentsOf: repeatElement(Event.Gap().record, count: count))
    withUnsafeMutableBytes { slots in
      let target = UnsafeMutableRawBufferPointer(rebasing: slots[(begin * Record.size)...])
      target.initializeMemory(as: UInt8.self, repeating: 0)
      target.copyBytes(from: tail)
    }
  }
}
