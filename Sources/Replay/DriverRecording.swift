import NVMe
import Trace

/// One command as the kernel's nvmet-pci-epf dealt with it, by its events.
struct DriverCommand {
  let qid: UInt16
  let cid: UInt16
  /// Nanoseconds since the trace began: fetched.
  let time: UInt64
  /// Entry of the submission queue.
  let slot: UInt32
  let sqe: SubmissionEntry
  var fetchFailed = false
  /// PRP lists and SGL segments.
  var lists: [(address: UInt64, bytes: [UInt8], isWhole: Bool)] = []
  var segments: [DriverSegment] = []
  /// What the target core answered, and the bytes that it expected to be moved.
  var executed: (status: Status, bytes: UInt32)?
  var completion: (cqid: UInt16, entry: CompletionEntry)?
  /// More completions than one.
  var extraCompletions = 0
  /// The controller was disabled or reset, or the link went down, before it was completed.
  var wasInterrupted = false
  /// The driver gave it up.
  var wasDropped = false
  /// An event of it may be missing.
  var isDoubtful = false
  /// A worker took it, and has come back.
  var work: (began: Bool, ended: Bool) = (false, false)
  /// Nanoseconds since the trace began: its completion was posted.
  var completedAt: UInt64 = 0
}

/// A contiguous piece of data that was moved.
struct DriverSegment: Equatable {
  var fromHost: Bool
  var address: UInt64
  var length: UInt64
  var failed = false
}

/// What happened to a controller of the kernel's target, in order: what a replay feeds to the engine.
enum DriverStep {
  case registerWrite(offset: UInt64, width: Int, value: UInt64)
  case linkDown
  /// Index into `DriverRecording.commands`.
  case command(Int)
}

/// A recording of nvmet-pci-epf, command by command. Nothing in it is trusted.
struct DriverRecording {
  private(set) var steps: [DriverStep] = []
  private(set) var commands: [DriverCommand] = []
  private(set) var events: UInt64 = 0
  /// Of the trace's last event, nanoseconds since it began.
  private(set) var end: UInt64 = 0
  /// Events are missing from here on: what follows cannot be judged.
  private(set) var endsAtGap = false
  /// Completions, data and answers for which no command was fetched.
  private(set) var strays: UInt64 = 0
  /// By queue and command identifier: what is in flight, and what was completed last under that name.
  private var live: [UInt32: Int] = [:]
  private var last: [UInt32: Int] = [:]
  private var streams: Set<UInt16> = []
  private let controller: UInt16

  /// Commands beyond this many are not replayed.
  static let commandsMax = 4_000_000

  init(controller: UInt16) { self.controller = controller }

  mutating func take(_ record: UnsafePointer<Record>, stream: UInt16) {
    guard !endsAtGap, commands.count < DriverRecording.commandsMax else { return }
    let event = record.pointee
    end = max(end, event.time)
    if event.event == .origin {
      if event.flags & 1 == 0, event.cid == controller { streams.insert(stream) } else { streams.remove(stream) }
      return
    }
    guard streams.contains(stream) else { return }
    if event.event == .gap {
      if event.flags & EventFlag.notRun != 0 { doubt(since: event.time) } else { endsAtGap = true }
      return
    }
    events += 1
    switch event.event {
    case .registerWrite:
      steps.append(.registerWrite(offset: event.a, width: Int(event.flags), value: event.b))
      if event.a == 0x14, event.bLow & 1 == 0 { interrupt() }
    case .link where event.flags == 0:
      steps.append(.linkDown)
      interrupt()
    case .fetch: fetched(record)
    case .read:
      let bytes = record.bytes.map(Array.init) ?? []
      change(event) { $0.lists.append((event.a, bytes, event.flags & 0x10 == 0)) }
    case .segment:
      change(event) {
        $0.segments.append(
          DriverSegment(
            fromHost: event.flags & EventFlag.fromHost != 0, address: event.a, length: UInt64(event.bLow),
            failed: event.flags & EventFlag.failed != 0))
      }
    case .executeEnd:
      change(event) { $0.executed = (Status(rawValue: UInt16(truncatingIfNeeded: event.aLow)), event.aHigh) }
    case .completion: completed(event)
    case .work where event.flags == 0: change(event) { $0.work.began = true }
    case .workEnd where event.flags == 0:
      // Its completion may have been posted by another thread meanwhile.
      if let index = live[key(event.qid, event.cid)] ?? last[key(event.qid, event.cid)] {
        commands[index].work.ended = true
      }
    case .dropped:
      change(event) { $0.wasDropped = true }
      live[key(event.qid, event.cid)] = nil
    default: break
    }
  }

  /// Some event before `time` is missing: any command under way then may lack it.
  private mutating func doubt(since time: UInt64) {
    let from = time - min(time, 100_000_000)
    var index = commands.count
    // Fetched in order; one that was completed before that has all its events.
    while index > 0, commands.count - index < 1 << 16 {
      index -= 1
      if commands[index].completedAt == 0 || commands[index].completedAt >= from { commands[index].isDoubtful = true }
    }
  }

  private func key(_ qid: UInt16, _ cid: UInt16) -> UInt32 { UInt32(qid) << 16 | UInt32(cid) }

  private mutating func fetched(_ record: UnsafePointer<Record>) {
    let event = record.pointee
    guard event.tail == 2 else { return }
    var command = DriverCommand(
      qid: event.qid, cid: event.cid, time: event.time, slot: event.aLow,
      sqe: UnsafeRawPointer(record + 1).loadUnaligned(as: SubmissionEntry.self))
    command.fetchFailed = event.flags & EventFlag.failed != 0
    let key = key(event.qid, event.cid)
    live[key] = commands.count
    last[key] = nil
    steps.append(.command(commands.count))
    commands.append(command)
  }

  private mutating func completed(_ event: Record) {
    var entry = CompletionEntry()
    (entry.dw0, entry.dw1, entry.dw2, entry.dw3) = (event.aLow, event.aHigh, event.bLow, event.bHigh)
    // By the submission queue that the driver took it from: the entry itself may be wrong.
    let key = key(event.qid, event.cid)
    if let index = live.removeValue(forKey: key) {
      commands[index].completion = (event.qid, entry)
      commands[index].completedAt = event.time
      last[key] = index
    } else if let index = last[key] {
      commands[index].extraCompletions += 1
    } else {
      strays += 1
    }
  }

  private mutating func change(_ event: Record, _ change: (inout DriverCommand) -> Void) {
    guard let index = live[key(event.qid, event.cid)] else {
      strays += 1
      return
    }
    change(&commands[index])
  }

  /// Whatever is in flight is not completed, and that is right.
  private mutating func interrupt() {
    for index in live.values { commands[index].wasInterrupted = true }
    live = [:]
    last = [:]
  }
}
