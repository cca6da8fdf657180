import CPlatform
import Events
import Glibc
import NVMe
import Platform
import Text
import Trace

/// A command that the device has not completed.
struct OutstandingCommand {
  var isOutstanding = false
  var opcode: UInt8 = 0
  var slba: UInt64 = 0
  /// The caller's value for it.
  var tag: UnsafeMutableRawPointer?
  /// When a wait first noticed it, nanoseconds; 0 before that, so that a submission reads no clock.
  var seenNs: UInt64 = 0
  /// The host has asked the controller to abort it.
  var isAborted = false

  init() {}

  @inline(__always)
  init(tag: UnsafeMutableRawPointer?, slba: UInt64, opcode: UInt8) {
    (isOutstanding, self.opcode, self.slba, self.tag) = (true, opcode, slba, tag)
  }

  /// Opcode and position, as `read, LBA 8`.
  func name(of qid: QueueID) -> String {
    if qid == .admin {
      guard let admin = AdminOpcode(rawValue: opcode) else { return "opcode \(opcode.hex)" }
      return "\(admin)"
    }
    guard let io = IOOpcode(rawValue: opcode) else { return "opcode \(opcode.hex)" }
    switch io {
    case .read, .write, .compare, .verify, .writeZeroes, .copy: return "\(io.name), LBA \(slba)"
    default: return io.name
    }
  }
}

extension QueuePair {
  /// Interval at which a waiting thread checks for a lost device, a late command, and a stop.
  private static let lookNs: UInt64 = 100_000_000
  /// Maximum commands named in a message.
  private static let namedMax = 8

  /// Several polls found no completion: yield or sleep before the next, following `Backoff`.
  /// - Parameters:
  ///   - now: nanoseconds of `HostController.nowNs`.
  ///   - end: no sleep lasts much longer than that.
  /// - Throws: `.gone` if the device has disconnected, `.late` if a command exceeds the controller's time limit, or the
  ///   controller was stopped a while ago.
  public mutating func wait(
    now: UInt64, until end: UInt64 = .max, on controller: HostController
  ) throws(HostError) {
    if now >= nextLook { try look(now, controller) }
    switch backoff.step(now: now) {
    case .spin: return
    case .yield:
      beginRest()
      sched_yield()
    case .sleep(let ns):
      beginRest()
      hasSlept = true
      // A completion since the last poll has raised the interrupt, so the sleep ends immediately.
      if let interrupt {
        let leftNs = end > now ? end - now : 0
        interrupt.wait(atMostMs: Int32(min(leftNs, QueuePair.lookNs) / 1_000_000))
        _ = interrupt.consume()
      } else {
        Backoff.sleep(ns: ns)
      }
    }
  }

  private mutating func look(_ now: UInt64, _ controller: HostController) throws(HostError) {
    nextLook = now + QueuePair.lookNs
    guard controller.isConnected else { throw HostError("the device has disconnected", kind: .gone) }
    guard age(now) >= controller.timeoutNs else {
      if controller.stop.isOver(now) { throw HostError("stopped, and left \(lateCommands(now))", kind: .late) }
      hasExplained = controller.stop.explain(lateCommands(now), now, unless: hasExplained)
      return
    }
    throw HostError("the device does not complete \(lateCommands(now))", kind: .late)
  }

  /// The commands that exceed a time limit.
  func lateIDs(_ now: UInt64, limitNs: UInt64) -> [Int] {
    (0..<entries).filter {
      commands[$0].isOutstanding && commands[$0].seenNs != 0 && now &- commands[$0].seenNs >= limitNs
    }
  }

  /// The controller was asked to abort a command, which gets its time limit again.
  mutating func noteAbort(_ id: Int, _ now: UInt64) {
    commands[id].isAborted = true
    commands[id].seenNs = now
  }

  /// Nanoseconds since the oldest outstanding command was first noticed.
  private func age(_ now: UInt64) -> UInt64 {
    var oldest = now
    for id in 0..<entries where commands[id].isOutstanding {
      if commands[id].seenNs == 0 { commands[id].seenNs = now }
      oldest = min(oldest, commands[id].seenNs)
    }
    return now &- oldest
  }

  /// The outstanding commands by name, oldest first, in one line, for the message of an abandoned wait.
  public func lateCommands(_ now: UInt64) -> String {
    let late = (0..<entries).filter { commands[$0].isOutstanding }
      .sorted { (commands[$0].seenNs, $0) < (commands[$1].seenNs, $1) }
    let names = late.prefix(QueuePair.namedMax).map { id in
      let seconds = commands[id].seenNs == 0 ? 0 : (now &- commands[id].seenNs) / 1_000_000_000
      return "command \(id) (\(commands[id].name(of: qid)), \(seconds) s)"
    }
    let more = late.count > names.count ? "; and \(late.count - names.count) more" : ""
    return "queue \(qid.rawValue): " + names.joined(separator: "; ") + more
  }

  private mutating func beginRest() {
    if restBegin == 0 { restBegin = Clock.ticks() }
  }

  /// A completion ends the wait; record it if the thread gave up its core.
  @inline(never)
  mutating func endRest() {
    if let recorder {
      let now = Clock.ticksAfterLoads()
      recorder.pointee.append(
        Event.Rest(time: now, flags: hasSlept ? .slept : [], qid: qid.rawValue, span: now &- restBegin).record)
    }
    restBegin = 0
    hasSlept = false
  }
}
