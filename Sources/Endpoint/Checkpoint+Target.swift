import NVMe
import Target

extension Subsystem {
  mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("NQN", &nqn)
    try state.code("serial number", &serial)
    try state.code("model number", &model)
    try state.code("firmware revision", &firmwareRevision)
    try state.code("PCI vendor", &vendorID, "PCI subsystem vendor", &subsystemVendorID)
    try state.code(
      "CNTLID", &controllerID, "I/O queues", &ioQueuesMax, "interrupt vectors", &vectors,
      "aggregation threshold after a reset", &coalescingThreshold)
    try state.code(
      "largest queue", &queueEntriesMax, "largest transfer", &maxTransferBytes, "IEEE OUI", &ieeeOUI,
      "milliseconds between polls of CC", &configurationPollMs)
    try state.code("NN", &namespacesMax)
    try state.code("arbitration after a reset", &arbitrationBurst, "aggregation time after a reset", &coalescingTime)
    try state.code("fetches batches", &fetchesBatches)
    try state.check(isValid)
  }
}

extension Namespace {
  /// Maximum bytes that `encode` writes.
  public static let encodedBytesMax = 64

  /// Write the bytes of a `namespace` event.
  /// - Returns: bytes written.
  public func encode(into bytes: UnsafeMutableRawBufferPointer) -> Int {
    precondition(bytes.count >= Namespace.encodedBytesMax)
    var (state, namespace) = (StateWriter(bytes), self)
    namespace.walk(&state)
    return state.count
  }

  /// A namespace that `encode` wrote.
  public static func decode(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) -> Namespace {
    var (state, namespace) = (StateReader(bytes), Namespace(nsid: 0, blocks: 0, blockShift: 0))
    try namespace.walk(&state)
    guard state.isAtEnd else { throw .invalid }
    return namespace
  }

  mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.enter("namespace", key: &nsid)
    try state.code("blocks", &blocks, "block shift", &blockShift)
    try state.code("is read-only", &isReadOnly)
    try state.code("is write protected", &isWriteProtected)
    try state.code("has reservations", &hasReservations)
    try state.code("UUID 127:64", &uuid.high, "UUID 63:0", &uuid.low)
    try state.code("NGUID 127:64", &nguid.high, "NGUID 63:0", &nguid.low)
    state.leave()
    try state.check(isValid)
  }
}

extension HostIdentifier {
  mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("host identifier 63:0", &low, "host identifier 127:64", &high)
  }
}

extension Features {
  mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("arbitration", &arbitration, "power management", &powerManagement)
    try state.code("over temperature threshold", &overTemperature, "under temperature threshold", &underTemperature)
    try state.code("volatile write cache", &volatileWriteCache, "number of queues", &numberOfQueues)
    try state.code("interrupt coalescing", &interruptCoalescing, "write atomicity", &writeAtomicity)
    try state.code("asynchronous event configuration", &asynchronousEventConfiguration)
    try state.code("keep alive timer", &keepAliveTimer, "host behavior support", &hostBehavior)
    let limit = Subsystem.namespacesLimit
    try state.table("error recovery values", "error recovery of namespace", &errorRecovery, limit: limit, new: 0) {
      (state, value) throws(C.Failure) in try state.code("value", &value)
    }
    try state.table("reservation masks", "reservation mask of namespace", &reservationMask, limit: limit, new: 0) {
      (state, value) throws(C.Failure) in try state.code("value", &value)
    }
    try state.code("timestamp", &timestampMs)
    try state.code("timestamp set at", &timestampSetMs)
    try hostIdentifier.walk(&state)
    for vector in vectorConfiguration.indices {
      var value = vectorConfiguration[vector]
      state.enter("interrupt vector", vector)
      try state.code("configuration", &value)
      state.leave()
      if C.reads { vectorConfiguration[vector] = value }
    }
  }
}

extension AsynchronousEvents {
  mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("masked events", &masked)
    try state.list(
      "pending events", "pending event", &pending, limit: AsynchronousEvents.pendingMax,
      new: AsynchronousEvent(type: 0, information: 0, logPage: 0)
    ) { (state, event) throws(C.Failure) in
      try state.code("type", &event.type, "information", &event.information)
      try state.code("log page", &event.logPage)
      event.type &= 7
    }
  }
}

extension ErrorLog {
  mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("errors", &count)
    try state.list("error log entries", "error log entry", &entries, limit: ErrorLog.entriesMax, new: Entry()) {
      (state, entry) throws(C.Failure) in
      try state.code(
        "count", &entry.count, "queue", &entry.qid.rawValue, "CID", &entry.cid.rawValue, "opcode", &entry.opcode)
      try state.code(
        "status", &entry.status.rawValue, "location", &entry.location, "LBA", &entry.lba, "namespace", &entry.nsid)
    }
  }
}

extension Health {
  mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("host read commands", &hostReadCommands, "host write commands", &hostWriteCommands)
    try state.code("bytes read", &bytesRead, "bytes written", &bytesWritten)
    try state.code(
      "media errors", &mediaErrors, "unsafe shutdowns", &unsafeShutdowns, "power cycles", &powerCycles,
      "first enabled at", &firstEnabledMs)
    try state.code("last enabled at", &enabledMs)
  }
}

extension Reservation {
  mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("generation", &generation)
    var kind = type?.rawValue ?? 0
    try state.code("type", &kind)
    type = ReservationType(rawValue: kind)
    try state.check(kind == 0 || type != nil)
    state.enter("holder", nil)
    try holder.walk(&state)
    state.leave()
    try state.list(
      "registrants", "registrant", &registrants, limit: Reservation.registrantsMax,
      new: Registrant(host: HostIdentifier(), key: 0)
    ) { (state, registrant) throws(C.Failure) in
      try registrant.host.walk(&state)
      try state.code("key", &registrant.key)
    }
  }
}
