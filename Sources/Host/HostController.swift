import CPlatform
import Glibc
import NVMe
import Platform
import Synchronization
import Trace
import VFIOUser

/// An NVMe controller reached over vfio-user, enabled and ready for queue pairs.
///
/// Any thread may call it; a queue pair is used by one thread at a time.
public final class HostController: @unchecked Sendable {
  let client: Client
  let doorbells: UnsafeMutableRawPointer
  let doorbellBytes: Int
  private var admin: QueuePair
  private var shared: [UInt64: SharedMemory] = [:]
  private let recording: HostRecording?
  private let adminData: SharedMemory
  private var freeQueueIDs: [UInt16] = []

  /// CAP, read when the controller was opened.
  public let capabilities: ControllerCapabilities
  /// Bytes of the largest transfer.
  public private(set) var maxTransferBytes = 128 << 10
  /// Whether Dataset Management deallocates.
  public private(set) var canDeallocate = false
  /// The namespace in use; nsid 0 before one is selected.
  public private(set) var namespace = HostNamespace(nsid: 0, blocks: 0, blockShift: 9)

  /// The namespace that the driver uses: the first active one.
  public struct HostNamespace: Equatable, Sendable {
    public let nsid: UInt32
    public let blocks: UInt64
    public let blockShift: UInt8

    public var bytes: UInt64 { blocks << blockShift }
  }

  /// Held while the socket or the admin queue is in use.
  private let lock = Mutex(())

  static let adminEntries = 32
  private static let queueEntriesMin = 64

  /// Time limit of a command, or of a change of the controller's state.
  public internal(set) var timeoutNs: UInt64
  /// Default of `timeoutNs`.
  public static let timeoutNsDefault: UInt64 = 30_000_000_000
  /// Environment variable through which `nvmepf record` passes the limit to the command that it runs, in seconds.
  public static let timeoutVariable = "NVMEPF_TIMEOUT"

  /// The limit in the environment, else the default.
  public static func timeoutNsFromEnvironment() -> UInt64 {
    guard let text = getenv(timeoutVariable), let seconds = Double(String(cString: text)), seconds > 0, seconds <= 1e6
    else { return timeoutNsDefault }
    return UInt64(seconds * 1e9)
  }
  let stop: StopFlag

  /// Connect, map the doorbells, and leave the controller disabled, for callers that perform the steps themselves.
  /// - Parameters:
  ///   - timeoutNs: time limit of a command, or of a change of the controller's state.
  ///   - stop: once set, workloads end.
  public init(
    connecting path: String, recording: HostRecording? = nil, timeoutNs: UInt64 = HostController.timeoutNsDefault,
    stop: StopFlag = StopFlag()
  ) throws(HostError) {
    (self.recording, self.timeoutNs, self.stop) = (recording, timeoutNs, stop)
    client = try HostError.wrap(try Client(path: path))
    let bar = try HostError.wrap(try client.regionInfo(PCIRegion.bar0))
    defer { if bar.descriptor >= 0 { close(bar.descriptor) } }
    guard bar.descriptor >= 0, let area = bar.mappable.first(where: { $0.offset == Register.doorbells }),
      area.size > 0, area.size <= 1 << 20,
      let page = mmap(
        nil, Int(area.size), PROT_READ | PROT_WRITE, MAP_SHARED, bar.descriptor, off_t(area.offset)), page != MAP_FAILED
    else { throw HostError("the device at \(path) has no doorbells that can be mapped") }
    doorbells = page
    doorbellBytes = Int(area.size)
    let cap = try HostError.wrap(try client.read(region: PCIRegion.bar0, offset: Register.cap, as: UInt64.self))
    capabilities = ControllerCapabilities(rawValue: cap)
    adminData = try HostController.share(SharedMemory.pageBytes, client)
    admin = try HostController.makeAdminQueue(client, doorbells, &shared)
  }

  deinit { munmap(doorbells, doorbellBytes) }

  private static func makeAdminQueue(
    _ client: Client, _ doorbells: UnsafeMutableRawPointer, _ shared: inout [UInt64: SharedMemory]
  ) throws(HostError) -> QueuePair {
    let memory = try share(QueuePair.memoryBytes(entries: adminEntries), client)
    shared[memory.address] = memory
    return QueuePair(qid: .admin, entries: adminEntries, memory: memory, doorbells: doorbells, recording: nil)
  }

  /// Connect and enable the controller.
  public convenience init(
    path: String, recording: HostRecording? = nil, timeoutNs: UInt64 = HostController.timeoutNsDefault,
    stop: StopFlag = StopFlag()
  ) throws(HostError) {
    try self.init(connecting: path, recording: recording, timeoutNs: timeoutNs, stop: stop)
    try enable()
    try identify()
  }

  // MARK: Registers

  public func readRegister(_ offset: UInt64) throws(HostError) -> UInt32 {
    try HostError.wrap(try client.read(region: PCIRegion.bar0, offset: offset, as: UInt32.self))
  }

  /// Write 32 or 64 bits of BAR 0.
  public func writeRegister(_ offset: UInt64, _ value: some FixedWidthInteger & BitwiseCopyable) throws(HostError) {
    try HostError.wrap(try client.write(region: PCIRegion.bar0, offset: offset, value))
  }

  /// Read CSTS.
  public func status() throws(HostError) -> ControllerStatus {
    ControllerStatus(rawValue: try readRegister(Register.csts))
  }

  // MARK: Bring-up

  /// Set the admin queue and enable (Base 2.1, 3.5.1).
  public func enable() throws(HostError) {
    let entries = UInt32(HostController.adminEntries - 1)
    try writeRegister(Register.aqa, entries | entries << 16)
    try writeRegister(Register.asq, admin.submissionAddress)
    try writeRegister(Register.acq, admin.completionAddress)
    try writeRegister(Register.cc, ControllerConfiguration.enabled.rawValue)
    try wait("become ready") { $0.ready }
    freeQueueIDs = try negotiateQueues()
  }

  /// Disable, which deletes every queue (Base 2.1, 3.7.2); the controller can be enabled again.
  public func disable() throws(HostError) {
    try writeRegister(Register.cc, UInt32(0))
    try wait("become disabled", isResetting: true) { !$0.ready }
    admin = try HostController.makeAdminQueue(client, doorbells, &shared)
  }

  /// A normal shutdown (Base 2.1, 3.6.1).
  public func shutDown() throws(HostError) {
    try writeRegister(Register.cc, ControllerConfiguration.enabled.rawValue | 1 << 14)
    try wait("shut down") { $0.shutdown == 2 }
  }

  /// Disable and enable a controller that does not work; its I/O queues are gone.
  public func restart() throws(HostError) {
    try wait("answer: its registers read as ones, so its link is down", isResetting: true) {
      $0.rawValue != UInt32.max
    }
    try disable()
    try enable()
  }

  /// - Parameter isResetting: a fatal error is expected to end.
  private func wait(
    _ what: String, isResetting: Bool = false, _ reached: (ControllerStatus) -> Bool
  ) throws(HostError) {
    let begin = Clock.monotonicNs()
    var backoff = Backoff.polling
    var hasExplained = false
    while true {
      let status = try status()
      if reached(status) { return }
      guard isResetting || !status.fatal else {
        throw HostError("the controller reports a fatal error and does not \(what)")
      }
      let now = Clock.monotonicNs()
      guard now - begin < timeoutNs else { throw HostError("the controller does not \(what)", kind: .late) }
      guard !stop.isOver(now) else { throw HostError("stopped before the controller did \(what)", kind: .late) }
      hasExplained = stop.explain("the controller to \(what)", now, unless: hasExplained)
      backoff.pause()
    }
  }

  private func negotiateQueues() throws(HostError) -> [UInt16] {
    var sqe = SubmissionEntry(opcode: AdminOpcode.setFeatures.rawValue, cid: CommandID(0))
    sqe.cdw10 = UInt32(FeatureID.numberOfQueues.rawValue)
    sqe.cdw11 = 0xfffe_fffe
    let granted = try succeed("Set Features (Number of Queues)", sqe).dw0
    let count = min(granted & 0xffff, granted >> 16) + 1
    return (1...UInt16(min(count, UInt32(doorbellBytes / 8 - 1)))).reversed()
  }

  private func identify() throws(HostError) {
    let controller = try identify(.controller, nsid: 0)
    if controller[77] != 0 { maxTransferBytes = min(SharedMemory.pageBytes << Int(controller[77] & 0xf), 2 << 20) }
    canDeallocate = controller[520] & 1 << 2 != 0
    let list = try identify(.activeNamespaces, nsid: 0)
    let nsid = list.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
    guard nsid != 0 else { throw HostError("the controller has no namespace") }
    let data = try identify(.namespace, nsid: nsid)
    let blocks = data.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
    let format = Int(data[26] & 0xf)
    let blockShift = data[128 + 4 * format + 2]
    guard blocks > 0, (9...16).contains(blockShift), blocks <= UInt64.max >> 16 else {
      throw HostError("namespace \(nsid) has an invalid size or format")
    }
    namespace = HostNamespace(nsid: nsid, blocks: blocks, blockShift: blockShift)
  }

  /// Identify (Base 2.1, 5.1.13): 4096 bytes.
  public func identify(_ cns: IdentifyCNS, nsid: UInt32) throws(HostError) -> [UInt8] {
    var sqe = SubmissionEntry(opcode: AdminOpcode.identify.rawValue, cid: CommandID(0), nsid: nsid)
    sqe.cdw10 = UInt32(cns.rawValue)
    sqe.prp1 = adminData.address
    _ = try succeed("Identify", sqe)
    return [UInt8](UnsafeRawBufferPointer(start: adminData.base, count: 4096))
  }

  // MARK: Admin commands

  /// Execute one admin command, whatever its status.
  /// - Parameter sqe: its CID is set here.
  public func execute(_ sqe: SubmissionEntry) throws(HostError) -> CompletionEntry {
    try lock.withLock { _ throws(HostError) in try executeAlone(sqe) }
  }

  private func executeAlone(_ sqe: SubmissionEntry) throws(HostError) -> CompletionEntry {
    var result: CompletionEntry?
    guard submitAdmin(sqe) else { throw HostError("the admin queue is full") }
    let begin = Clock.monotonicNs()
    var backoff = Backoff.polling
    var hasExplained = false
    while result == nil {
      _ = admin.reap(1) { cqe, _ in result = cqe }
      if result != nil { break }
      let now = Clock.monotonicNs()
      guard now - begin < timeoutNs else {
        throw HostError("the device does not complete \(admin.lateCommands(now))", kind: .late)
      }
      guard !stop.isOver(now) else { throw HostError("stopped, and left \(admin.lateCommands(now))", kind: .late) }
      hasExplained = stop.explain(admin.lateCommands(now), now, unless: hasExplained)
      backoff.pause()
    }
    return result!
  }

  /// Submit an admin command that may never complete.
  @discardableResult
  public func submitAdmin(_ sqe: SubmissionEntry) -> Bool {
    guard admin.submit(sqe) else { return false }
    admin.ring()
    return true
  }

  /// Completions of admin commands so far.
  public func reapAdmin() -> [CompletionEntry] {
    var all: [CompletionEntry] = []
    _ = admin.reap { cqe, _ in all.append(cqe) }
    return all
  }

  private func succeed(_ what: String, _ sqe: SubmissionEntry) throws(HostError) -> CompletionEntry {
    let cqe = try execute(sqe)
    guard cqe.status.isSuccess else { throw .failed(what, cqe.status) }
    return cqe
  }

  // MARK: Memory

  private static func share(_ count: Int, _ client: Client) throws(HostError) -> SharedMemory {
    let memory = try SharedMemory(count: count)
    try HostError.wrap(
      try client.mapMemory(address: memory.address, size: UInt64(memory.count), descriptor: memory.descriptor))
    return memory
  }

  /// Memory accessible to the device, until `unshare`.
  public func share(_ count: Int) throws(HostError) -> SharedMemory {
    try lock.withLock { _ throws(HostError) in
      let memory = try HostController.share(count, client)
      shared[memory.address] = memory
      return memory
    }
  }

  /// Revoke the device's access to memory.
  public func unshare(_ address: UInt64) throws(HostError) {
    try lock.withLock { _ throws(HostError) in
      guard let memory = shared[address] else { return }
      try HostError.wrap(try client.unmapMemory(address: address, size: UInt64(memory.count)))
      shared[address] = nil
    }
  }

  // MARK: Queue pairs

  /// Create an I/O queue pair for `depth` outstanding commands.
  /// - Parameters:
  ///   - vector: the interrupt vector of its completion queue, for a caller that waits for interrupts itself.
  ///   - sleeps: a thread that waits for a completion sleeps until its interrupt (see `QueuePair.wait`). With neither,
  ///     the
  ///     queue has no interrupts and is polled.
  public func makeQueuePair(depth: Int, vector: UInt16? = nil, sleeps: Bool = false) throws(HostError) -> QueuePair {
    // Spare entries, so that a completion never waits for an entry that the host is about to free.
    let entries = min(max(depth + 1, HostController.queueEntriesMin), Int(capabilities.queueEntriesMax))
    guard depth >= 1, depth < Int(capabilities.queueEntriesMax) else {
      throw HostError("a queue depth of \(depth) is invalid: it must be 1 to \(capabilities.queueEntriesMax - 1)")
    }
    guard let id = lock.withLock({ _ in freeQueueIDs.popLast() }) else {
      throw HostError("the controller has no more I/O queues: give it more with --queues")
    }
    let memory = try share(QueuePair.memoryBytes(entries: entries))
    let ring = try recording?.makeRing(stream: id)
    let interrupt = sleeps ? try attachInterrupt(id) : nil
    let queue = QueuePair(
      qid: QueueID(id), entries: entries, memory: memory, doorbells: doorbells, recording: ring, interrupt: interrupt)
    try create(queue, vector: interrupt == nil ? vector : id)
    return queue
  }

  /// An interrupt on the vector with the queue's number.
  /// - Returns: nil if the device has no such vector.
  private func attachInterrupt(_ vector: UInt16) throws(HostError) -> EventDescriptor? {
    let interrupt: EventDescriptor
    do throws(SystemError) { interrupt = try EventDescriptor() } catch {
      throw HostError("cannot create an event descriptor: \(error)")
    }
    return try lock.withLock { _ throws(HostError) in
      do throws(VFIOUserError) {
        try client.setInterrupts(.msix, start: UInt32(vector), descriptors: [interrupt.descriptor])
        return interrupt
      } catch {
        guard case .refused = error.kind else { throw HostError(error.description) }
        return nil
      }
    }
  }

  private func create(_ queue: borrowing QueuePair, vector: UInt16?) throws(HostError) {
    let size = UInt32(queue.qid.rawValue) | UInt32(queue.entries - 1) << 16
    var sqe = SubmissionEntry(opcode: AdminOpcode.createIOCompletionQueue.rawValue, cid: CommandID(0))
    sqe.prp1 = queue.completionAddress
    sqe.cdw10 = size
    sqe.cdw11 = 1 | (vector.map { 2 | UInt32($0) << 16 } ?? 0)
    _ = try succeed("Create I/O Completion Queue", sqe)
    sqe = SubmissionEntry(opcode: AdminOpcode.createIOSubmissionQueue.rawValue, cid: CommandID(0))
    sqe.prp1 = queue.submissionAddress
    sqe.cdw10 = size
    sqe.cdw11 = 1 | UInt32(queue.qid.rawValue) << 16
    _ = try succeed("Create I/O Submission Queue", sqe)
  }

  /// Delete a queue pair; its identifier is free for another.
  public func delete(_ queue: consuming QueuePair) throws(HostError) {
    let id = queue.qid.rawValue
    let address = queue.submissionAddress
    for opcode in [AdminOpcode.deleteIOSubmissionQueue, .deleteIOCompletionQueue] {
      var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0))
      sqe.cdw10 = UInt32(id)
      _ = try succeed("deleting queue \(id)", sqe)
    }
    try unshare(address)
    lock.withLock { _ in freeQueueIDs.append(id) }
  }

  /// Whether `threads` waiting for one device, plus its polling thread if it runs on their cores, exceed the cores
  /// available to this process. A thread that only polls would then keep the device from running.
  /// - Parameter hasEngine: the device runs in this process.
  public static func needsSleep(threads: Int, hasEngine: Bool = false) -> Bool {
    let allowed = Int(nvmepf_allowed_cores())
    // If this process is kept off some cores, they are reserved for the device.
    let engine = hasEngine || allowed >= sysconf(Int32(_SC_NPROCESSORS_ONLN)) ? 1 : 0
    return threads + engine > allowed
  }

  /// Whether the device is still connected.
  public var isConnected: Bool { client.isConnected }

  /// The clock of time limits, in nanoseconds.
  public static func nowNs() -> UInt64 { Clock.monotonicNs() }

  /// A device reset by the bus; the controller is disabled afterwards.
  public func reset() throws(HostError) {
    try HostError.wrap(try client.reset())
    admin = try HostController.makeAdminQueue(client, doorbells, &shared)
  }
}
