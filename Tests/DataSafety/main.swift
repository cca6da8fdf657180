import Foundation
import Glibc
import Host
import NVMe

// data-safety NVMEPF ROUNDS SEED
//
// Serves a file with NVMEPF, writes it with and without Force Unit Access, flushes, kills the server with SIGKILL in the
// middle of that, ROUNDS times, and looks each time whether the file holds what it must: every block that was
// acknowledged before an acknowledged flush, or with Force Unit Access, or something newer; and no block in pieces.

/// What a block may hold: the newest value that must have survived, and all that was written after it.
struct BlockHistory {
  var durable: UInt64 = 0
  var acknowledged: UInt64 = 0
  var newer: [UInt64] = []

  mutating func write(_ tag: UInt64) { newer.append(tag) }

  mutating func acknowledge(_ tag: UInt64, isDurable: Bool) {
    acknowledged = max(acknowledged, tag)
    if isDurable { settle(tag) }
  }

  /// A value, and with it everything older, need not be kept apart any more.
  mutating func settle(_ tag: UInt64) {
    guard tag > durable else { return }
    durable = tag
    newer.removeAll { $0 <= tag }
  }

  func permits(_ value: UInt64) -> Bool { value == durable || newer.contains(value) }
}

/// A write or a flush under way.
struct Sent {
  var block = -1
  var tag: UInt64 = 0
  var isDurable = false
  /// Of a flush: by block what was acknowledged when it was submitted.
  var covered: [UInt64] = []
}

struct SplitMix64: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }
}

let blocks = 256
let blockBytes = 4096
let depth = 16

struct Round: ~Copyable {
  let controller: HostController
  let buffer: SharedMemory
  var queue: QueuePair
  var sent: [Sent]
  /// Blocks with a write under way: two at once would leave the order open.
  var busy: Set<Int> = []

  init(path: String) throws {
    let controller = try HostController(path: path)
    let buffer = try controller.share(depth * blockBytes)
    let queue = try controller.makeQueuePair(depth: depth)
    self.controller = controller
    self.buffer = buffer
    self.queue = queue
    sent = Array(repeating: Sent(), count: depth)
  }

  mutating func run(_ history: inout [BlockHistory], _ tag: inout UInt64, _ random: inout SplitMix64, kill: pid_t) {
    let end = 50 + Int(random.next() % 2000)
    var done = 0
    var free = Array(0..<depth)
    while done < end {
      while let place = free.popLast() {
        guard submit(place, &history, &tag, &random) else {
          free.append(place)
          break
        }
      }
      queue.ring()
      var completed: [(Int, Status)] = []
      _ = queue.reap { cqe, slot in completed.append((Int(bitPattern: slot) - 1, cqe.status)) }
      for (place, status) in completed {
        precondition(status.isSuccess, "a write or flush failed with status \(status)")
        acknowledge(place, &history)
        free.append(place)
        done += 1
      }
    }
    Glibc.kill(kill, SIGKILL)
    // What the dead server completed before it died counts as acknowledged.
    _ = queue.reap { _, _ in }
  }

  private mutating func submit(
    _ place: Int, _ history: inout [BlockHistory], _ tag: inout UInt64, _ random: inout SplitMix64
  ) -> Bool {
    let slot = UnsafeMutableRawPointer(bitPattern: place + 1)
    if random.next() % 20 == 0 {
      sent[place] = Sent(covered: history.map(\.acknowledged))
      return queue.submit(SubmissionEntry(opcode: IOOpcode.flush.rawValue, cid: CommandID(0), nsid: 1), tag: slot)
    }
    let block = Int(random.next() % UInt64(blocks))
    guard busy.insert(block).inserted else { return false }
    tag += 1
    let isDurable = random.next() % 5 == 0
    sent[place] = Sent(block: block, tag: tag, isDurable: isDurable)
    history[block].write(tag)
    let data = buffer.base + place * blockBytes
    data.initializeMemory(as: UInt64.self, repeating: tag, count: blockBytes / 8)
    var sqe = SubmissionEntry(opcode: IOOpcode.write.rawValue, cid: CommandID(0), nsid: 1)
    sqe.slba = UInt64(block)
    sqe.cdw12 = isDurable ? 1 << 30 : 0
    return queue.submit(sqe, buffer: data, length: blockBytes, tag: slot)
  }

  private mutating func acknowledge(_ place: Int, _ history: inout [BlockHistory]) {
    let command = sent[place]
    guard command.block >= 0 else {
      for (block, tag) in command.covered.enumerated() { history[block].settle(tag) }
      return
    }
    busy.remove(command.block)
    history[command.block].acknowledge(command.tag, isDurable: command.isDurable)
  }
}

/// - Returns: what is wrong with the file.
func check(_ path: String, _ history: inout [BlockHistory]) throws -> [String] {
  let data = try Data(contentsOf: URL(fileURLWithPath: path))
  var problems: [String] = []
  data.withUnsafeBytes { bytes in
    for block in 0..<blocks {
      let words = UnsafeRawBufferPointer(rebasing: bytes[(block * blockBytes)...].prefix(blockBytes))
        .bindMemory(to: UInt64.self)
      let value = words[0]
      if !words.allSatisfy({ $0 == value }) { problems.append("block \(block) is in pieces") }
      if !history[block].permits(value) {
        problems.append("block \(block) holds \(value), it must hold \(history[block].durable) or newer")
      }
      // The next round begins with what is there.
      history[block] = BlockHistory(durable: value, acknowledged: value)
    }
  }
  return problems
}

let arguments = CommandLine.arguments
guard arguments.count == 4, let rounds = Int(arguments[2]), let seed = UInt64(arguments[3]) else {
  print("usage: data-safety NVMEPF ROUNDS SEED")
  exit(2)
}
let directory = NSTemporaryDirectory() + "/nvmepf-safety-\(getpid())"
try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
defer { try? FileManager.default.removeItem(atPath: directory) }
let file = directory + "/namespace"
try Data(count: blocks * blockBytes).write(to: URL(fileURLWithPath: file))
var history = [BlockHistory](repeating: BlockHistory(), count: blocks)
var tag: UInt64 = 0
var random = SplitMix64(state: seed)
var failures = 0
for number in 1...rounds {
  let socket = directory + "/socket\(number)"
  let server = Process()
  server.executableURL = URL(fileURLWithPath: arguments[1])
  server.arguments = ["serve", "--socket", socket, "--backend", file, "--block-size", "\(blockBytes)"]
  server.standardError = FileHandle.nullDevice
  try server.run()
  // The socket is there a moment before anybody listens.
  var attempt: Round?
  var refusal: (any Error)?
  while attempt == nil, server.isRunning {
    do { attempt = try Round(path: socket) } catch { refusal = error }
  }
  guard var round = attempt.take() else {
    print("round \(number): the server ended by itself: \(refusal.map { "\($0)" } ?? "")")
    exit(1)
  }
  round.run(&history, &tag, &random, kill: server.processIdentifier)
  server.waitUntilExit()
  for problem in try check(file, &history) {
    print("round \(number): \(problem)")
    failures += 1
  }
}
print("\(rounds) rounds, \(tag) writes, \(failures) failures; seed \(seed)")
exit(failures == 0 ? 0 : 1)
