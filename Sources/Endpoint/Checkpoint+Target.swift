import NVMe
import Target

/// The parts of a checkpoint that are the target's.
extension Controller {
  func encode(_ subsystem: Subsystem, _ state: inout StateWriter) {
    for text in [subsystem.nqn, subsystem.serial, subsystem.model, subsystem.firmwareRevision] { state.put(text) }
    for value in [
      subsystem.vendorID, subsystem.subsystemVendorID, subsystem.controllerID, subsystem.ioQueuesMax,
      subsystem.vectors, subsystem.coalescingThreshold,
    ] { state.put(value) }
    for value in [
      subsystem.queueEntriesMax, subsystem.maxTransferBytes, subsystem.ieeeOUI, subsystem.configurationPollMs,
      subsystem.namespacesMax,
    ] { state.put(value) }
    for value in [subsystem.arbitrationBurst, subsystem.coalescingTime] { state.put(value) }
    state.put(subsystem.fetchesBatches)
  }

  // A dictionary has no order of its own, the same state must have the same bytes.

  func encode(_ features: Features, _ state: inout StateWriter) {
    for value in [
      features.arbitration, features.powerManagement, features.overTemperature, features.underTemperature,
      features.volatileWriteCache, features.numberOfQueues, features.interruptCoalescing,
      features.writeAtomicity, features.asynchronousEventConfiguration, features.keepAliveTimer,
      features.hostBehavior,
    ] { state.put(value) }
    for values in [features.errorRecovery, features.reservationMask] {
      state.put(UInt32(values.count))
      for (nsid, value) in values.sorted(by: { $0.key < $1.key }) {
        state.put(nsid)
        state.put(value)
      }
    }
    state.put(features.timestampMs != nil)
    for value in [
      features.timestampMs ?? 0, features.timestampSetMs, features.hostIdentifier.low, features.hostIdentifier.high,
    ] { state.put(value) }
    for value in features.vectorConfiguration { state.put(value) }
  }

  func encode(_ events: AsynchronousEvents, _ state: inout StateWriter) {
    state.put(events.masked)
    state.put(UInt32(events.pending.count))
    for event in events.pending {
      for value in [event.type, event.information, event.logPage] { state.put(value) }
    }
  }

  func encode(_ errors: ErrorLog, _ state: inout StateWriter) {
    state.put(errors.count)
    state.put(UInt32(errors.entries.count))
    for entry in errors.entries {
      state.put(entry.count)
      for value in [entry.qid.rawValue, entry.cid.rawValue] { state.put(value) }
      state.put(entry.opcode)
      for value in [entry.status.rawValue, entry.location] { state.put(value) }
      state.put(entry.lba)
      state.put(entry.nsid)
    }
  }

  func encode(_ health: Health, _ state: inout StateWriter) {
    for value in [
      health.hostReadCommands, health.hostWriteCommands, health.bytesRead, health.bytesWritten, health.mediaErrors,
      health.unsafeShutdowns, health.powerCycles, health.firstEnabledMs, health.enabledMs,
    ] { state.put(value) }
  }

  func encode(_ reservations: Reservations, _ state: inout StateWriter) {
    state.put(UInt32(reservations.byNamespace.count))
    for (nsid, reservation) in reservations.byNamespace.sorted(by: { $0.key < $1.key }) {
      for value in [nsid, reservation.generation] { state.put(value) }
      state.put(reservation.type?.rawValue ?? 0)
      for value in [reservation.holder.low, reservation.holder.high] { state.put(value) }
      state.put(UInt32(reservation.registrants.count))
      for registrant in reservation.registrants {
        for value in [registrant.host.low, registrant.host.high, registrant.key] { state.put(value) }
      }
    }
  }
}

extension Namespace {
  /// Room that `encode` needs at most.
  public static let encodedBytesMax = 64

  /// As the trace has it where a namespace comes or goes.
  /// - Returns: bytes written.
  public func encode(into bytes: UnsafeMutableRawBufferPointer) -> Int {
    precondition(bytes.count >= Namespace.encodedBytesMax)
    var state = StateWriter(bytes)
    encode(&state)
    return state.count
  }

  /// A namespace that `encode` wrote.
  public static func decode(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) -> Namespace {
    var state = StateReader(bytes)
    let namespace = try Namespace(&state)
    guard state.isAtEnd else { throw .invalid }
    return namespace
  }

  func encode(_ state: inout StateWriter) {
    state.put(nsid)
    state.put(blocks)
    state.put(blockShift)
    for value in [isReadOnly, isWriteProtected, hasReservations] { state.put(value) }
    for value in [uuid.high, uuid.low, nguid.high, nguid.low] { state.put(value) }
  }

  init(_ state: inout StateReader) throws(CheckpointError) {
    self.init(nsid: try state.get(), blocks: try state.get(), blockShift: try state.get())
    isReadOnly = try state.getBool()
    isWriteProtected = try state.getBool()
    hasReservations = try state.getBool()
    uuid = NamespaceUUID(high: try state.get(), low: try state.get())
    nguid = NamespaceUUID(high: try state.get(), low: try state.get())
    guard isValid else { throw .invalid }
  }
}

extension Subsystem {
  init(_ state: inout StateReader) throws(CheckpointError) {
    self.init()
    nqn = try state.getText()
    serial = try state.getText()
    model = try state.getText()
    firmwareRevision = try state.getText()
    vendorID = try state.get()
    subsystemVendorID = try state.get()
    controllerID = try state.get()
    ioQueuesMax = try state.get()
    vectors = try state.get()
    coalescingThreshold = try state.get()
    queueEntriesMax = try state.get()
    maxTransferBytes = try state.get()
    ieeeOUI = try state.get()
    configurationPollMs = try state.get()
    namespacesMax = try state.get()
    arbitrationBurst = try state.get()
    coalescingTime = try state.get()
    fetchesBatches = try state.getBool()
    guard isValid else { throw .invalid }
  }
}

extension Features {
  init(_ state: inout StateReader, _ subsystem: Subsystem) throws(CheckpointError) {
    self.init(subsystem)
    arbitration = try state.get()
    powerManagement = try state.get()
    overTemperature = try state.get()
    underTemperature = try state.get()
    volatileWriteCache = try state.get()
    numberOfQueues = try state.get()
    interruptCoalescing = try state.get()
    writeAtomicity = try state.get()
    asynchronousEventConfiguration = try state.get()
    keepAliveTimer = try state.get()
    hostBehavior = try state.get()
    errorRecovery = try Features.byNamespace(&state)
    reservationMask = try Features.byNamespace(&state)
    let timestampIsSet = try state.getBool()
    let timestamp = try state.get(UInt64.self)
    timestampMs = timestampIsSet ? timestamp : nil
    timestampSetMs = try state.get()
    hostIdentifier = HostIdentifier(low: try state.get(), high: try state.get())
    for vector in vectorConfiguration.indices { vectorConfiguration[vector] = try state.get() }
  }

  private static func byNamespace(_ state: inout StateReader) throws(CheckpointError) -> [UInt32: UInt32] {
    var values: [UInt32: UInt32] = [:]
    for _ in 0..<(try state.getCount(Int(Subsystem.namespacesLimit))) {
      values[try state.get(UInt32.self)] = try state.get(UInt32.self)
    }
    return values
  }
}

extension Health {
  init(_ state: inout StateReader) throws(CheckpointError) {
    self.init()
    hostReadCommands = try state.get()
    hostWriteCommands = try state.get()
    bytesRead = try state.get()
    bytesWritten = try state.get()
    mediaErrors = try state.get()
    unsafeShutdowns = try state.get()
    powerCycles = try state.get()
    firstEnabledMs = try state.get()
    enabledMs = try state.get()
  }
}

extension Reservations {
  init(_ state: inout StateReader) throws(CheckpointError) {
    var all: [UInt32: Reservation] = [:]
    for _ in 0..<(try state.getCount(Int(Subsystem.namespacesLimit))) {
      let nsid = try state.get(UInt32.self)
      all[nsid] = try Reservation(&state)
    }
    self.init(byNamespace: all)
  }
}

extension Reservation {
  init(_ state: inout StateReader) throws(CheckpointError) {
    self.init()
    generation = try state.get()
    let type = try state.get(UInt8.self)
    guard type <= 6 else { throw .invalid }
    self.type = ReservationType(rawValue: type)
    holder = HostIdentifier(low: try state.get(), high: try state.get())
    for _ in 0..<(try state.getCount(Reservation.registrantsMax)) {
      registrants.append(
        .init(host: HostIdentifier(low: try state.get(), high: try state.get()), key: try state.get()))
    }
  }
}

extension AsynchronousEvents {
  init(_ state: inout StateReader) throws(CheckpointError) {
    let masked = try state.get(UInt8.self)
    var pending: [AsynchronousEvent] = []
    for _ in 0..<(try state.getCount(AsynchronousEvents.pendingMax)) {
      pending.append(.init(type: try state.get() & 7, information: try state.get(), logPage: try state.get()))
    }
    self.init(pending: pending, masked: masked)
  }
}

extension ErrorLog {
  init(_ state: inout StateReader) throws(CheckpointError) {
    let count = try state.get(UInt64.self)
    var entries: [Entry] = []
    for _ in 0..<(try state.getCount(ErrorLog.entriesMax)) {
      entries.append(
        Entry(
          count: try state.get(), qid: QueueID(try state.get(UInt16.self)), cid: CommandID(try state.get(UInt16.self)),
          opcode: try state.get(), status: Status(rawValue: try state.get()), location: try state.get(),
          lba: try state.get(), nsid: try state.get()))
    }
    self.init(count: count, entries: entries)
  }
}
