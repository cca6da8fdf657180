import Chance
import Endpoint
import Events
import NVMe
import Recording
import Target
import Trace

@testable import Simulation

extension Controller {
  /// Its checkpoint.
  mutating func encoded() -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: Controller.checkpointBytesMax) { $1 = encode(into: .init($0)) }
  }

  static func decode(_ bytes: [UInt8]) throws -> Controller {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
    defer { copy.deallocate() }
    copy.copyBytes(from: bytes)
    return try decode(UnsafeRawBufferPointer(copy))
  }
}

/// The engine in the simulated world. The test is the host and drives it step by step, in virtual time, so equal steps
/// give equal records.
final class EngineBench {
  static let memoryBytes = World.memoryBytes
  static let address = World.address
  static let namespaceBlocks: UInt64 = 2048

  // Offsets in host memory.
  static let identify = 0x2000
  static func submission(_ qid: UInt16) -> Int { 0x10000 * Int(qid) }
  static func completion(_ qid: UInt16) -> Int { 0x10000 * Int(qid) + 0x8000 }
  static let data = 0x100000
  static let lists = 0xf0000
  static let listBytes = 0x4000

  let world: World
  var controller: Controller
  var port: RecordingPort<SimulatedPort, RingRecorder<VirtualTime>>
  private let ring: Ring
  private var consumer: RingConsumer
  /// Everything recorded so far.
  private(set) var recorded: [Record] = []
  private var queues: [UInt16: SimulatedQueue] = [:]
  private let state = UnsafeMutableRawBufferPointer.allocate(
    byteCount: Controller.checkpointBytesMax, alignment: 16)
  private let keepsRecording: Bool

  /// - Parameters:
  ///   - keepsPromises: the host violates no rule, so the world checks what the engine does with its queues.
  ///   - seed: determines what the scenario leaves open.
  init(
    keepsRecording: Bool = true, payload: Bool = false, keepsPromises: Bool = true, scenario: Scenario = Scenario(),
    seed: UInt64 = 0, ringSlots: UInt64 = 1 << 16, _ configure: (inout Subsystem) -> Void = { _ in }
  ) throws {
    let path = "/dev/shm/nvmepf-test-\(TraceID.random()).ring"
    let ring = try Ring(creating: path, capacity: ringSlots, source: .engine, stream: 0, traceID: .random())
    ring.removeFile()
    self.ring = ring
    self.keepsRecording = keepsRecording
    consumer = RingConsumer(ring)
    var subsystem = Subsystem()
    subsystem.ioQueuesMax = UInt16(World.queuesMax - 1)
    subsystem.vectors = UInt16(World.queuesMax)
    configure(&subsystem)
    world = World(judgesQueues: keepsPromises)
    let recorder = RingRecorder(
      RingProducer(ring, whenFull: .wait), time: world.time, keepsPayload: payload, ticksPerSecond: 1_000_000_000)
    port = RecordingPort(SimulatedPort(world, scenario, seed: seed), recorder)
    controller = Controller(
      subsystem, namespaces: [Namespace(nsid: 1, blocks: EngineBench.namespaceBlocks, blockShift: 9)])
    checkpoint()
  }

  deinit {
    state.deallocate()
    world.deallocate()
  }

  /// The host's memory.
  var memory: UnsafeMutableRawPointer { world.memory }

  func queueExists(_ qid: UInt16) -> Bool { queues[qid] != nil }

  // MARK: Steps

  func checkpoint() {
    let begin = port.recorder.time.ticks()
    let count = controller.encode(into: state)
    port.recorder.checkpoint(UnsafeRawBufferPointer(rebasing: state[..<count]), since: begin)
    collect()
  }

  /// Let the engine poll once.
  /// - Returns: whether it had anything to do.
  @discardableResult
  func poll() -> Bool {
    _ = port.beginPass()
    let worked = controller.poll(&port)
    if worked { controller.checkInvariants() }
    precondition(world.violation == nil, world.violation!)
    collect()
    return worked
  }

  /// Let the engine poll until it has nothing to do. No time passes for what takes time.
  func settle() { while poll() {} }

  /// Let time pass until a backend or a timer has its turn.
  /// - Returns: false where none ever has.
  @discardableResult
  func wait() -> Bool {
    guard let next = port.inner.nextNs else { return false }
    world.time.advance(to: next)
    settle()
    return true
  }

  /// Let time pass until no backend has anything.
  func drain() { while controller.executing > 0, wait() {} }

  private func collect() {
    guard let slots = try? consumer.available() else { return }
    if keepsRecording { recorded.append(contentsOf: slots) }
    consumer.free(slots.count)
  }

  func write(_ register: UInt64, _ value: UInt64, width: Int = 4) {
    controller.writeRegister(offset: register, width: width, value: value, &port)
    collect()
  }

  func read(_ register: UInt64, width: Int = 4) -> UInt64 {
    controller.readRegister(offset: register, width: width, &port)
  }

  func ring(_ doorbell: Doorbell, _ value: UInt32) { world.doorbells[doorbell.index] = value }

  /// A null namespace, where there is none.
  func attach(_ nsid: UInt32) {
    guard controller.target.namespace(nsid) == nil else { return }
    controller.attach(Namespace(nsid: nsid, blocks: 4096, blockShift: 12), &port)
  }

  /// Admin queue of 32 entries, enabled.
  func enable() {
    write(Register.aqa, 31 | 31 << 16)
    write(Register.asq, EngineBench.address + UInt64(EngineBench.submission(0)), width: 8)
    write(Register.acq, EngineBench.address + UInt64(EngineBench.completion(0)), width: 8)
    queues = [0: add(0, entries: 32)]
    write(Register.cc, UInt64(ControllerConfiguration.enabled.rawValue))
  }

  private func add(_ qid: UInt16, entries: UInt32, vector: UInt16? = nil) -> SimulatedQueue {
    let queue = SimulatedQueue(qid: qid, submissionEntries: entries, completionEntries: entries, vector: vector)
    world.add(queue)
    return queue
  }

  /// Write an entry and ring for it.
  func submit(_ qid: UInt16, _ sqe: SubmissionEntry) {
    queues[qid]!.put(sqe, world)
    queues[qid]!.ring(world)
  }

  /// The next completion that is there; its entry is freed.
  func reap(_ qid: UInt16) -> CompletionEntry? {
    guard let cqe = queues[qid]!.consume(world) else { return nil }
    queues[qid]!.release(world)
    return cqe
  }

  /// One command from submission to completion; nil when none came.
  func execute(_ qid: UInt16, _ sqe: SubmissionEntry) -> CompletionEntry? {
    submit(qid, sqe)
    settle()
    let cqe = reap(qid)
    settle()
    return cqe
  }

  func admin(_ opcode: AdminOpcode, _ edit: (inout SubmissionEntry) -> Void = { _ in }) -> CompletionEntry? {
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(7))
    edit(&sqe)
    return execute(0, sqe)
  }

  /// Create a queue pair.
  /// - Returns: the status of the first command that failed.
  func createPair(_ qid: UInt16, entries: UInt32 = 64, vector: UInt16? = nil) -> Status {
    let queue = add(qid, entries: entries, vector: vector)
    let size = UInt32(qid) | (entries - 1) << 16
    let completion = admin(.createIOCompletionQueue) {
      $0.prp1 = EngineBench.address + UInt64(EngineBench.completion(qid))
      $0.cdw10 = size
      $0.cdw11 = 1 | (vector.map { 2 | UInt32($0) << 16 } ?? 0)
    }
    guard let completion, completion.status.isSuccess else { return completion?.status ?? .internalError }
    let submission = admin(.createIOSubmissionQueue) {
      $0.prp1 = EngineBench.address + UInt64(EngineBench.submission(qid))
      $0.cdw10 = size
      $0.cdw11 = 1 | UInt32(qid) << 16
    }
    queues[qid] = queue
    return submission?.status ?? .internalError
  }

  /// A read or write of `blocks` at `slba`, its data at `offset` of the data area.
  static func io(
    _ opcode: IOOpcode, cid: UInt16 = 1, slba: UInt64, blocks: UInt32, offset: Int = 0, prp2: UInt64 = 0
  ) -> SubmissionEntry {
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(cid), nsid: 1)
    sqe.slba = slba
    sqe.cdw12 = blocks - 1
    sqe.prp1 = address + UInt64(data + offset)
    sqe.prp2 = prp2
    return sqe
  }
}

extension Scenario {
  /// A backend that works on every request at once, for so long.
  static func slow(_ serviceNs: ClosedRange<UInt64>) -> Scenario {
    var scenario = Scenario()
    (scenario.parallelism, scenario.serviceNs, scenario.cancelsBegun) = (.max, serviceNs, true)
    return scenario
  }

  /// A backend that is never done in the time of a test.
  static let endless = slow(3_600_000_000_000...3_600_000_000_000)
}
