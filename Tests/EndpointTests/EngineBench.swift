import Chance
import Endpoint
import Events
import Glibc
import NVMe
import Platform
import Recording
import Synchronization
import Target
import Trace

@testable import Backends
@testable import Device

/// The engine and its live port over plain memory, driven step by step by the test, which is the host.
final class EngineBench {
  static let memoryBytes = 4 << 20
  static let guardBytes = 64 << 10
  static let address: UInt64 = 0x1_0000_0000
  static let namespaceBlocks: UInt64 = 2048
  private static let guardByte: UInt8 = 0xa5

  // Where things lie in the host's memory.
  static let adminSubmission = 0x0000
  static let adminCompletion = 0x1000
  static let identify = 0x2000
  static func submission(_ qid: UInt16) -> Int { 0x10000 * Int(qid) }
  static func completion(_ qid: UInt16) -> Int { 0x10000 * Int(qid) + 0x8000 }
  static let data = 0x100000
  static let lists = 0xf0000
  static let listBytes = 0x4000

  var controller: Controller
  var port: RecordingPort<LivePort<MachineTime>, RingRecorder<MachineTime>>
  private let whole: UnsafeMutableRawBufferPointer
  private let doorbells: UnsafeMutablePointer<Atomic<UInt32>>
  let storage: UnsafeMutableRawBufferPointer
  private let ring: Ring
  private var consumer: RingConsumer
  /// Everything recorded so far.
  private(set) var recorded: [Record] = []
  private var queues: [UInt16: Queue] = [:]
  private let state = UnsafeMutableRawBufferPointer.allocate(
    byteCount: Controller.checkpointBytesMax, alignment: 16)
  private let keepsRecording: Bool
  private let random = UnsafeMutablePointer<SeededGenerator>.allocate(capacity: 1)

  /// The host's side of a queue pair.
  struct Queue {
    var entries: UInt32
    var tail: UInt32 = 0
    var head: UInt32 = 0
    var phase = true
    var submission: Int
    var completion: Int
  }

  /// - Parameters:
  ///   - serviceTime: with one the namespace keeps nothing, and its commands are not done at once.
  ///   - pieceBytes: the memory is mapped piece by piece, as by a host that has no other.
  init(
    keepsRecording: Bool = true, payload: Bool = false, serviceTime: ServiceTime = .none,
    ringSlots: UInt64 = 1 << 16, pieceBytes: Int = 256 << 10, _ configure: (inout Subsystem) -> Void = { _ in }
  ) throws {
    let path = "/dev/shm/nvmepf-test-\(TraceID.random()).ring"
    let ring = try Ring(creating: path, capacity: ringSlots, source: .engine, stream: 0, traceID: .random())
    ring.removeFile()
    self.ring = ring
    self.keepsRecording = keepsRecording
    var subsystem = Subsystem()
    subsystem.ioQueuesMax = 4
    subsystem.vectors = 5
    configure(&subsystem)
    whole = EngineBench.zeros(EngineBench.memoryBytes + 2 * EngineBench.guardBytes)
    for edge in [0, EngineBench.guardBytes + EngineBench.memoryBytes] {
      memset(whole.baseAddress! + edge, Int32(EngineBench.guardByte), EngineBench.guardBytes)
    }
    doorbells = .allocate(capacity: 1024)
    for index in 0..<1024 { (doorbells + index).initialize(to: Atomic(0)) }
    storage = EngineBench.zeros(Int(EngineBench.namespaceBlocks) * 512)
    consumer = RingConsumer(ring)
    let recorder = RingRecorder(
      RingProducer(ring, whenFull: .wait), time: MachineTime(), keepsPayload: payload, ticksPerSecond: 1_000_000_000)
    var port = LivePort(time: MachineTime(), doorbells: doorbells, vectors: 5)
    random.initialize(to: SeededGenerator(seed: 0))
    let slow = ServiceTimer(serviceTime, random: random)
    port.backends.set(1, slow.map { .slow($0) } ?? .memory(MemoryBackend(base: storage.baseAddress!)))
    for place in stride(from: 0, to: EngineBench.memoryBytes, by: pieceBytes) {
      let isMapped = port.memory.add(
        MemoryMap.Range(
          address: EngineBench.address + UInt64(place), length: UInt64(pieceBytes),
          base: whole.baseAddress! + EngineBench.guardBytes + place, writable: true))
      precondition(isMapped, "pieces do not overlap")
    }
    self.port = RecordingPort(port, recorder)
    controller = Controller(
      subsystem, namespaces: [Namespace(nsid: 1, blocks: EngineBench.namespaceBlocks, blockShift: 9)])
    checkpoint()
  }

  deinit {
    munmap(whole.baseAddress, whole.count)
    doorbells.deallocate()
    munmap(storage.baseAddress, storage.count)
    random.deallocate()
    state.deallocate()
  }

  /// Memory that costs nothing until it is used.
  private static func zeros(_ count: Int) -> UnsafeMutableRawBufferPointer {
    let base = mmap(nil, count, PROT_READ | PROT_WRITE, Int32(MAP_PRIVATE) | Int32(MAP_ANONYMOUS), -1, 0)
    precondition(base != MAP_FAILED, "no memory")
    return UnsafeMutableRawBufferPointer(start: base, count: count)
  }

  /// The host's memory.
  var memory: UnsafeMutableRawPointer { whole.baseAddress! + EngineBench.guardBytes }

  /// Whether nothing beside the mapped memory was touched.
  var guardsAreIntact: Bool {
    let end = EngineBench.guardBytes + EngineBench.memoryBytes
    return isIntact(whole[..<EngineBench.guardBytes]) && isIntact(whole[end...])
  }

  /// Its first byte is right, and every other is like the one before.
  private func isIntact(_ edge: Slice<UnsafeMutableRawBufferPointer>) -> Bool {
    let bytes = UnsafeMutableRawBufferPointer(rebasing: edge)
    return bytes[0] == EngineBench.guardByte
      && memcmp(bytes.baseAddress!, bytes.baseAddress! + 1, bytes.count - 1) == 0
  }

  func queueExists(_ qid: UInt16) -> Bool { queues[qid] != nil }

  // MARK: Steps

  func checkpoint() {
    let count = controller.encode(into: state)
    port.recorder.checkpoint(UnsafeRawBufferPointer(rebasing: state[..<count]))
    collect()
  }

  /// Let the engine poll until it has nothing to do.
  func settle() {
    repeat {
      _ = port.beginPass()
      collect()
    } while controller.poll(&port)
    controller.checkInvariants()
    collect()
  }

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

  func ring(_ doorbell: Doorbell, _ value: UInt32) {
    doorbells[doorbell.index].store(value, ordering: .releasing)
  }

  /// Admin queue of 32 entries, enabled.
  func enable() {
    write(Register.aqa, 31 | 31 << 16)
    write(Register.asq, EngineBench.address + UInt64(EngineBench.adminSubmission), width: 8)
    write(Register.acq, EngineBench.address + UInt64(EngineBench.adminCompletion), width: 8)
    (memory + EngineBench.adminCompletion).initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
    write(Register.cc, UInt64(ControllerConfiguration.enabled.rawValue))
    queues = [
      0: Queue(
        entries: 32, submission: EngineBench.adminSubmission, completion: EngineBench.adminCompletion)
    ]
  }

  /// Write an entry and ring for it.
  func submit(_ qid: UInt16, _ sqe: SubmissionEntry) {
    let queue = queues[qid]!
    let place = memory + queue.submission + Int(queue.tail) * SubmissionEntry.size
    place.storeBytes(of: sqe, as: SubmissionEntry.self)
    queues[qid]!.tail = (queue.tail + 1) % queue.entries
    ring(.submissionTail(QueueID(qid)), queues[qid]!.tail)
  }

  /// The next completion that is there; its entry is freed.
  func reap(_ qid: UInt16) -> CompletionEntry? {
    let queue = queues[qid]!
    let cqe = (memory + queue.completion + Int(queue.head) * CompletionEntry.size).load(as: CompletionEntry.self)
    guard cqe.phase == queue.phase else { return nil }
    queues[qid]!.head = (queue.head + 1) % queue.entries
    if queues[qid]!.head == 0 { queues[qid]!.phase.toggle() }
    ring(.completionHead(QueueID(qid)), queues[qid]!.head)
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
    (memory + EngineBench.completion(qid)).initializeMemory(as: UInt8.self, repeating: 0, count: 0x8000)
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
    queues[qid] = Queue(
      entries: entries, submission: EngineBench.submission(qid), completion: EngineBench.completion(qid))
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
