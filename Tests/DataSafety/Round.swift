import Chance
import Foundation
import Glibc
import Host
import NVMe
import Text

/// The places that are written: whole pages, then single blocks, which share theirs.
struct Units {
  static let pages = 128
  static let count = 256
  static let pageBytes = 4096

  let blockShift: UInt8
  var blockBytes: Int { 1 << Int(blockShift) }
  var bytes: Int { Units.pages * Units.pageBytes + (Units.count - Units.pages) * blockBytes }

  func range(_ unit: Int) -> Range<Int> {
    if unit < Units.pages { return unit * Units.pageBytes..<(unit + 1) * Units.pageBytes }
    let begin = Units.pages * Units.pageBytes + (unit - Units.pages) * blockBytes
    return begin..<begin + blockBytes
  }
}

/// A command in flight.
struct Sent {
  enum Kind { case write, deallocate, flush }
  var kind = Kind.flush
  var unit = -1
  var tag: UInt64 = 0
  var isDurable = false
  /// Of a flush: by unit what was acknowledged when it was submitted.
  var covered: [UInt64] = []
}

/// What is known of all units, and the commands that the next round will submit.
struct Model {
  var history = [BlockHistory](repeating: BlockHistory(), count: Units.count)
  var tag: UInt64 = 0
  var random: SeededGenerator
  /// Whether everything acknowledged survives: the page cache outlives a process, not a machine.
  let keepsAcknowledged: Bool

  mutating func acknowledge(_ command: Sent) {
    switch command.kind {
    case .flush: for (unit, tag) in command.covered.enumerated() { history[unit].settle(tag) }
    case .write: history[command.unit].acknowledge(command.tag, isDurable: command.isDurable || keepsAcknowledged)
    case .deallocate: break
    }
  }
}

/// One life of a server: commands at random until it is killed.
struct Round: ~Copyable {
  private static let depth = 16
  /// Commands at the end that make nothing durable, so that there is something to forget.
  private static let lastCommands = 64
  let units: Units
  private let server: Process
  private let controller: HostController
  private let buffer: SharedMemory
  private var queue: QueuePair
  private var sent = [Sent](repeating: Sent(), count: Round.depth)
  /// Units with a command in flight; two commands for one unit would have no defined order.
  private var busy: Set<Int> = []
  private var makesDurable = true

  init(_ server: Process, path: String) throws {
    let controller = try HostController(path: path)
    let buffer = try controller.share(Round.depth * Units.pageBytes)
    let queue = try controller.makeQueuePair(depth: Round.depth)
    self.server = server
    self.controller = controller
    self.buffer = buffer
    self.queue = queue
    units = Units(blockShift: controller.namespace.blockShift)
  }

  mutating func run(_ model: inout Model) {
    let end = Round.lastCommands + Int(model.random.next() % 2000)
    var done = 0
    var free = Array(0..<Round.depth)
    while done < end {
      makesDurable = done + Round.lastCommands < end
      while let place = free.popLast() {
        guard submit(place, &model) else {
          free.append(place)
          break
        }
      }
      queue.ring()
      let completed = reap(&model)
      free += completed
      done += completed.count
    }
    kill(server.processIdentifier, SIGKILL)
    server.waitUntilExit()
    // What the dead server completed before it died counts as acknowledged.
    _ = reap(&model)
  }

  /// - Returns: the places that are free again.
  private mutating func reap(_ model: inout Model) -> [Int] {
    var completed: [(place: Int, status: Status)] = []
    _ = queue.reap { cqe, slot in completed.append((Int(bitPattern: slot) - 1, cqe.status)) }
    for (place, status) in completed {
      precondition(status.isSuccess, "\(sent[place].kind) failed with status \(status.code.hex)")
      busy.remove(sent[place].unit)
      model.acknowledge(sent[place])
    }
    return completed.map(\.place)
  }

  private mutating func submit(_ place: Int, _ model: inout Model) -> Bool {
    let dice = model.random.next() % 100
    if dice < 5, makesDurable { return submitFlush(place, model) }
    let unit = Int(model.random.next() % UInt64(Units.count))
    guard busy.insert(unit).inserted else { return false }
    model.tag += 1
    return dice < 8 ? submitDeallocate(place, unit, &model) : submitWrite(place, unit, isZero: dice < 15, &model)
  }

  private func slot(_ place: Int) -> UnsafeMutableRawPointer? { UnsafeMutableRawPointer(bitPattern: place + 1) }

  private mutating func submitFlush(_ place: Int, _ model: Model) -> Bool {
    sent[place] = Sent(covered: model.history.map(\.acknowledged))
    return queue.submit(
      SubmissionEntry(opcode: IOOpcode.flush.rawValue, cid: CommandID(0), nsid: 1), tag: slot(place))
  }

  private mutating func submitDeallocate(_ place: Int, _ unit: Int, _ model: inout Model) -> Bool {
    let range = units.range(unit)
    sent[place] = Sent(kind: .deallocate, unit: unit, tag: model.tag)
    model.history[unit].deallocate(model.tag)
    return queue.submitDeallocate(
      nsid: 1, slba: UInt64(range.lowerBound >> Int(units.blockShift)),
      blocks: UInt32(range.count >> Int(units.blockShift)), tag: slot(place))
  }

  private mutating func submitWrite(_ place: Int, _ unit: Int, isZero: Bool, _ model: inout Model) -> Bool {
    let range = units.range(unit)
    let isDurable = model.random.next() % 5 == 0 && makesDurable
    sent[place] = Sent(kind: .write, unit: unit, tag: model.tag, isDurable: isDurable)
    model.history[unit].write(Version(tag: model.tag, value: isZero ? 0 : model.tag))
    let opcode = isZero ? IOOpcode.writeZeroes : .write
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0), nsid: 1)
    sqe.slba = UInt64(range.lowerBound >> Int(units.blockShift))
    sqe.cdw12 = UInt32(range.count >> Int(units.blockShift) - 1) | (isDurable ? 1 << 30 : 0)
    if isZero {
      // Every other one may deallocate.
      sqe.cdw12 |= UInt32(model.tag % 2) << 25
      return queue.submit(sqe, tag: slot(place))
    }
    let data = buffer.base + place * Units.pageBytes
    data.initializeMemory(as: UInt64.self, repeating: model.tag, count: range.count / 8)
    return queue.submit(sqe, buffer: data, length: range.count, tag: slot(place))
  }
}
