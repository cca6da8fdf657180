import CPlatform
import Events
import Glibc
import NVMe
import Platform
import Synchronization
import Trace

/// A submission queue and its completion queue, as driven by a host. One thread at a time uses it.
///
/// Submitting writes entries; `ring` announces them to the device. `reap` consumes completions, in any order.
public struct QueuePair: ~Copyable {
  public let qid: QueueID
  /// Entries of each queue; outstanding commands are at most one fewer.
  public let entries: Int

  private let submission: UnsafeMutablePointer<SubmissionEntry>
  private let completion: UnsafeMutableRawPointer
  private let memory: SharedMemory
  /// One page per command identifier, for its PRP list.
  private let lists: UnsafeMutableRawPointer
  private let tailDoorbell: UnsafeMutablePointer<Atomic<UInt32>>
  private let headDoorbell: UnsafeMutablePointer<Atomic<UInt32>>

  private var tail = 0
  private var rungTail = 0
  private var head = 0
  private var phase = true

  /// Free identifiers, in the order of their release.
  private let freeIDs: UnsafeMutablePointer<UInt16>
  private var firstFree = 0
  /// Commands in flight.
  public private(set) var outstanding = 0
  /// Completions that named no outstanding command.
  public private(set) var unexpected: UInt64 = 0
  /// Whether consumed entries are freed; false only to try a controller.
  var freesEntries = true
  /// By command identifier: the commands that the host has submitted and not seen completed.
  let commands: UnsafeMutablePointer<OutstandingCommand>

  /// Ring for this queue's events; nil without a recording.
  let recorder: UnsafeMutablePointer<RingProducer>?

  /// Wakes the waiting thread; nil for a polled queue.
  let interrupt: EventDescriptor?
  var backoff: Backoff
  /// Tick at which the thread first gave up its core in this wait; 0 if it has not.
  var restBegin: UInt64 = 0
  var hasSlept = false
  /// When to check device and commands again, nanoseconds.
  var nextLook: UInt64 = 0
  /// It has reported, after a stop, what it waits for.
  var hasExplained = false

  /// Bytes of memory for a queue pair of `entries`.
  static func memoryBytes(entries: Int) -> Int {
    listOffset(entries) + entries * SharedMemory.pageBytes
  }

  private static func completionOffset(_ entries: Int) -> Int {
    roundedUp(entries * SubmissionEntry.size)
  }

  private static func listOffset(_ entries: Int) -> Int {
    completionOffset(entries) + roundedUp(entries * CompletionEntry.size)
  }

  private static func roundedUp(_ bytes: Int) -> Int {
    (bytes + SharedMemory.pageBytes - 1) & ~(SharedMemory.pageBytes - 1)
  }

  /// - Parameters:
  ///   - doorbells: the device's mapped doorbell page.
  ///   - interrupt: raised for completions; nil for a polled queue.
  init(
    qid: QueueID, entries: Int, memory: SharedMemory, doorbells: UnsafeMutableRawPointer,
    recording ring: Ring?, interrupt: EventDescriptor? = nil
  ) {
    precondition(memory.count >= QueuePair.memoryBytes(entries: entries) && entries >= 2 && entries <= 65536)
    self.qid = qid
    self.entries = entries
    self.memory = memory
    submission = memory.base.assumingMemoryBound(to: SubmissionEntry.self)
    completion = memory.base + QueuePair.completionOffset(entries)
    lists = memory.base + QueuePair.listOffset(entries)
    let array = doorbells.assumingMemoryBound(to: Atomic<UInt32>.self)
    tailDoorbell = array + Doorbell.submissionTail(qid).index
    headDoorbell = array + Doorbell.completionHead(qid).index
    freeIDs = .allocate(capacity: entries)
    for id in 0..<entries { (freeIDs + id).initialize(to: UInt16(id)) }
    commands = .allocate(capacity: entries)
    commands.initialize(repeating: OutstandingCommand(), count: entries)
    self.interrupt = interrupt
    backoff = interrupt == nil ? .polling : .interrupted
    if let ring {
      let producer = UnsafeMutablePointer<RingProducer>.allocate(capacity: 1)
      producer.initialize(to: RingProducer(ring, whenFull: .wait))
      recorder = producer
    } else {
      recorder = nil
    }
  }

  deinit {
    freeIDs.deallocate()
    commands.deallocate()
    if let recorder {
      recorder.deinitialize(count: 1)
      recorder.deallocate()
    }
  }

  /// Addresses of the queues for the device.
  var submissionAddress: UInt64 { memory.address }
  var completionAddress: UInt64 { memory.address + UInt64(QueuePair.completionOffset(entries)) }

  public var isFull: Bool { outstanding == entries - 1 }

  // MARK: Submitting

  /// Write a command into the submission queue; its CID is set here.
  /// - Parameter tag: returned with the completion.
  /// - Returns: false if the queue is full.
  @inline(__always)
  public mutating func submit(_ sqe: SubmissionEntry, tag: UnsafeMutableRawPointer? = nil) -> Bool {
    guard let cid = allocateID() else { return false }
    write(sqe, cid, tag)
    return true
  }

  /// Write a command that transfers `length` bytes at `buffer`, which the device must be able to access.
  @inline(__always)
  public mutating func submit(
    _ sqe: SubmissionEntry, buffer: UnsafeMutableRawPointer, length: Int, tag: UnsafeMutableRawPointer? = nil
  ) -> Bool {
    guard let cid = allocateID() else { return false }
    var whole = sqe
    let list = lists + Int(cid.rawValue) * SharedMemory.pageBytes
    (whole.prp1, whole.prp2) = QueuePair.prps(UInt64(UInt(bitPattern: buffer)), length, list: list)
    write(whole, cid, tag)
    return true
  }

  /// Write a Dataset Management command that deallocates one range (NVM Command Set 1.1, 3.3.3).
  /// - Returns: false if the queue is full.
  public mutating func submitDeallocate(
    nsid: UInt32, slba: UInt64, blocks: UInt32, tag: UnsafeMutableRawPointer? = nil
  ) -> Bool {
    guard let cid = allocateID() else { return false }
    let range = lists + Int(cid.rawValue) * SharedMemory.pageBytes
    range.storeBytes(of: UInt64(blocks) << 32, as: UInt64.self)
    range.storeBytes(of: slba, toByteOffset: 8, as: UInt64.self)
    var sqe = SubmissionEntry(opcode: IOOpcode.datasetManagement.rawValue, cid: cid, nsid: nsid)
    sqe.cdw11 = 1 << 2
    sqe.prp1 = UInt64(UInt(bitPattern: range))
    write(sqe, cid, tag)
    return true
  }

  /// Write a command with the identifier of one in flight, which the specification forbids (Base 2.1, 4.1).
  /// - Returns: false if no command is in flight, or the submission queue has no room to spare.
  mutating func submitAgain(_ sqe: SubmissionEntry, buffer: UnsafeMutableRawPointer, length: Int) -> Bool {
    guard outstanding > 0, outstanding + 1 < entries - 1 else { return false }
    var id = 0
    while !commands[id].isOutstanding { id += 1 }
    var whole = sqe
    let list = lists + id * SharedMemory.pageBytes
    (whole.prp1, whole.prp2) = QueuePair.prps(UInt64(UInt(bitPattern: buffer)), length, list: list)
    write(whole, CommandID(UInt16(id)), commands[id].tag)
    return true
  }

  @inline(__always)
  private mutating func allocateID() -> CommandID? {
    guard !isFull else { return nil }
    let id = freeIDs[firstFree]
    firstFree = firstFree + 1 == entries ? 0 : firstFree + 1
    outstanding += 1
    return CommandID(id)
  }

  @inline(__always)
  private mutating func write(_ sqe: SubmissionEntry, _ cid: CommandID, _ tag: UnsafeMutableRawPointer?) {
    commands[Int(cid.rawValue)] = OutstandingCommand(tag: tag, slba: sqe.slba, opcode: sqe.opcode)
    if let recorder {
      recorder.pointee.append(
        Event.Submit(time: Clock.ticks(), opcode: sqe.opcode, qid: qid.rawValue, cid: cid.rawValue).record)
    }
    var whole = sqe
    whole.cid = cid
    submission[tail] = whole
    tail = tail + 1 == entries ? 0 : tail + 1
  }

  /// PRP1 and PRP2 for `length` contiguous bytes; a third page and more go into `list` (Base 2.1, 4.3.1).
  @inline(__always)
  static func prps(_ address: UInt64, _ length: Int, list: UnsafeMutableRawPointer) -> (UInt64, UInt64) {
    let page = UInt64(SharedMemory.pageBytes)
    let second = (address & ~(page - 1)) + page
    let end = address + UInt64(length)
    if end <= second { return (address, 0) }
    if end <= second + page { return (address, second) }
    var next = second
    var index = 0
    let prps = list.assumingMemoryBound(to: UInt64.self)
    precondition(Int((end - second + page - 1) / page) <= SharedMemory.pageBytes / 8, "MDTS is at most 2 MiB")
    while next < end {
      prps[index] = next
      index += 1
      next += page
    }
    return (address, UInt64(UInt(bitPattern: list)))
  }

  /// Announce all submitted commands to the device.
  @inline(__always)
  public mutating func ring() {
    guard tail != rungTail else { return }
    rungTail = tail
    if let recorder {
      recorder.pointee.append(
        Event.Doorbell(time: Clock.ticks(), qid: qid.rawValue, value: UInt32(tail)).record)
    }
    tailDoorbell.pointee.store(UInt32(tail), ordering: .releasing)
  }

  // MARK: Reaping

  /// Whether a completion is waiting.
  @inline(__always)
  public var hasCompletion: Bool {
    let dw3 = (completion + head * CompletionEntry.size + 12).assumingMemoryBound(to: Atomic<UInt32>.self)
    return (dw3.pointee.load(ordering: .acquiring) & 1 << 16 != 0) == phase
  }

  /// Consume available completions, at most `most`, and free their entries.
  /// - Returns: the number of commands that they complete.
  @inline(__always)
  public mutating func reap(
    _ most: Int = .max, _ each: (CompletionEntry, UnsafeMutableRawPointer?) -> Void
  ) -> Int {
    var (count, consumed) = (0, 0)
    if restBegin != 0, hasCompletion { endRest() }
    while consumed < most, hasCompletion {
      let cqe = (completion + head * CompletionEntry.size).load(as: CompletionEntry.self)
      if let recorder {
        recorder.pointee.append(
          Event.Completion(
            time: Clock.ticksAfterLoads(), cqid: qid.rawValue, cid: cqe.cid.rawValue, dw0: cqe.dw0, dw1: cqe.dw1,
            dw2: cqe.dw2,
            dw3: cqe.dw3
          ).record)
      }
      if head + 1 == entries {
        head = 0
        phase.toggle()
      } else {
        head += 1
      }
      consumed += 1
      let id = Int(cqe.cid.rawValue)
      guard id < entries, commands[id].isOutstanding else {
        unexpected += 1
        continue
      }
      count += 1
      give(back: id)
      each(cqe, commands[id].tag)
    }
    if consumed > 0 {
      if freesEntries { free() }
      backoff.restart()
    }
    return count
  }

  @inline(__always)
  private mutating func give(back id: Int) {
    commands[id].isOutstanding = false
    var place = firstFree + (entries - outstanding)
    if place >= entries { place -= entries }
    freeIDs[place] = UInt16(id)
    outstanding -= 1
  }

  /// Write the completion queue's head doorbell.
  @inline(__always)
  private func free() {
    if let recorder {
      recorder.pointee.append(
        Event.Doorbell(time: Clock.ticks(), flags: .completionHead, qid: qid.rawValue, value: UInt32(head)).record)
    }
    headDoorbell.pointee.store(UInt32(head), ordering: .releasing)
  }
}
