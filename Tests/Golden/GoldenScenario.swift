import Backends
import Device
import Host
import NVMe
import Service

/// What a golden trace shows.
enum GoldenScenario: String, CaseIterable, Sendable {
  case qd1Read = "qd1-read"
  case qd32Mixed = "qd32-mixed"
  case bringUp = "bring-up"
  case errors
  case twoQueues = "two-queues"
  case sgl
  case commands
  case coalescing
  case resetInFlight = "reset-in-flight"
  case namespaces
  case stateHashes = "state-hashes"

  /// One vector per queue, and a memory namespace, or a slow one where commands must be in flight.
  private var configuration: EndpointConfiguration {
    let slow = BackendConfiguration.null(bytes: 64 << 20, serviceTime: .exponential(meanNs: 20_000_000, seed: 1))
    return EndpointConfiguration(
      backend: self == .resetInFlight ? slow : .memory(bytes: 64 << 20), ioQueuesMax: 4)
  }

  /// Record it at `path`.
  func record(to path: String) throws {
    let endpoint = try ServedEndpoint(
      configuration, keeping: ServedEndpoint.Keeping(stateHashEvery: self == .stateHashes ? 1 : nil),
      output: .trace(path), command: ["nvmepf", "golden", rawValue])
    try endpoint.start()
    let player = GoldenPlayer(
      controller: try HostController(path: endpoint.socketPath, recording: endpoint.hostRecording),
      function: endpoint.function)
    try player.play(self)
    try player.controller.shutDown()
    try endpoint.finish()
  }
}

/// Drives the controller step by step.
private struct GoldenPlayer {
  let controller: HostController
  let function: EndpointFunction

  func play(_ scenario: GoldenScenario) throws(HostError) {
    switch scenario {
    case .qd1Read:
      _ = try Workload(pattern: .randread, blockBytes: 4096, depth: 1, length: .commands(300))
        .run(on: controller)
    case .qd32Mixed:
      for kib in [4, 64, 512] {
        _ = try Workload(pattern: .randrw, blockBytes: kib << 10, depth: 32, length: .commands(64))
          .run(on: controller)
      }
      try playChainedList()
    case .bringUp:
      for _ in 0..<3 {
        _ = try Workload(pattern: .randrw, blockBytes: 8192, depth: 2, length: .commands(10))
          .run(on: controller)
        try controller.shutDown()
        try controller.disable()
        try controller.enable()
      }
      try controller.reset()
      try controller.enable()
    case .errors: try playErrors()
    case .twoQueues: try playTwoQueues()
    case .sgl: try playSGLs()
    case .commands: try playCommands()
    case .coalescing: try playCoalescing()
    case .resetInFlight: try playResets()
    case .namespaces: try playNamespaces()
    case .stateHashes:
      _ = try Workload(pattern: .randrw, blockBytes: 8192, depth: 4, length: .commands(40)).run(on: controller)
      try controller.reset()
      try controller.enable()
    }
  }

  /// Submit one command, and wait for its completion.
  private func execute(_ sqe: SubmissionEntry, on queue: inout QueuePair) {
    _ = queue.submit(sqe)
    queue.ring()
    while queue.reap(1, { _, _ in }) == 0 {}
  }

  /// Of eight blocks of namespace 1.
  private func entry(_ opcode: IOOpcode, slba: UInt64 = 0) -> SubmissionEntry {
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0), nsid: 1)
    sqe.slba = slba
    sqe.cdw12 = 7
    return sqe
  }

  private func reapAll(_ queue: inout QueuePair) {
    queue.ring()
    while queue.outstanding > 0 { _ = queue.reap { _, _ in } }
  }

  private func admin(_ opcode: AdminOpcode, _ edit: (inout SubmissionEntry) -> Void) throws(HostError) {
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0))
    edit(&sqe)
    _ = try controller.execute(sqe)
  }

  /// A write and a read whose PRP list begins two entries before the end of a page and continues in another.
  private func playChainedList() throws(HostError) {
    var queue = try controller.makeQueuePair(depth: 1)
    let buffer = try controller.share(64 << 10)
    let lists = try controller.share(8192)
    let entries = (lists.base + 4096 - 16).assumingMemoryBound(to: UInt64.self)
    entries[0] = buffer.address + 4096
    // The last entry of the page points to the next list, which happens to follow it.
    entries[1] = lists.address + 4096
    for page in 2..<16 as Range<Int> { entries[page] = buffer.address + UInt64(page) * 4096 }
    for opcode in [IOOpcode.write, .read] {
      var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0), nsid: 1)
      sqe.cdw12 = 127
      sqe.prp1 = buffer.address
      sqe.prp2 = lists.address + 4096 - 16
      execute(sqe, on: &queue)
    }
    try controller.delete(queue)
  }

  /// Commands that the controller must refuse, and admin commands that it must refuse.
  private func playErrors() throws(HostError) {
    var queue = try controller.makeQueuePair(depth: 8)
    let buffer = try controller.share(1 << 20)
    var good = entry(.read)
    good.prp1 = buffer.address
    var commands: [SubmissionEntry] = []
    for edit in [
      { $0.slba = .max }, { $0.cdw0 = 0x7f }, { $0.prp1 += 2 }, { $0.nsid = 9 }, { $0.prp1 = 0x1000 },
      { $0.cdw12 = 0xffff }, { $0.cdw0 |= 3 << 14 },
      {
        $0.cdw12 = 15
        $0.prp2 = $0.prp1 + 4096 + 8
      },
    ] as [(inout SubmissionEntry) -> Void] {
      var sqe = good
      edit(&sqe)
      commands.append(sqe)
    }
    for sqe in commands + [good] {
      execute(sqe, on: &queue)
    }
    try controller.delete(queue)
    for opcode in [0x7f, AdminOpcode.createIOSubmissionQueue.rawValue, AdminOpcode.deleteIOCompletionQueue.rawValue]
      as [UInt8]
    { _ = try controller.execute(SubmissionEntry(opcode: opcode, cid: CommandID(0))) }
  }

  /// Two queues with commands in both at once.
  private func playTwoQueues() throws(HostError) {
    var first = try controller.makeQueuePair(depth: 16)
    var second = try controller.makeQueuePair(depth: 16)
    let buffer = try controller.share(1 << 20)
    for round in 0..<20 as Range<UInt64> {
      for number in 0..<12 as Range<UInt64> {
        let sqe = entry(number % 3 == 0 ? .write : .read, slba: (round * 12 + number) * 8)
        let target = buffer.base + Int(number) * 8192
        _ = first.submit(sqe, buffer: target, length: 4096)
        _ = second.submit(sqe, buffer: target + 4096, length: 4096)
      }
      first.ring()
      second.ring()
      while first.outstanding + second.outstanding > 0 {
        _ = first.reap { _, _ in }
        _ = second.reap { _, _ in }
      }
    }
    try controller.delete(first)
    try controller.delete(second)
  }

  /// A Data Block, chained segments, Bit Buckets, and invalid lists.
  private func playSGLs() throws(HostError) {
    var queue = try controller.makeQueuePair(depth: 4)
    let buffer = try controller.share(64 << 10)
    let lists = try controller.share(8192)
    let block = { (index: Int, length: UInt32) in
      SGLDescriptor(.dataBlock, address: buffer.address + UInt64(index) * 4096, length: length)
    }
    let last = { (place: Int, count: Int) in
      SGLDescriptor(.lastSegment, address: lists.address + UInt64(place), length: UInt32(count * 16))
    }
    let segment = SGLDescriptor(.segment, address: lists.address, length: 3 * 16)
    let bucket = SGLDescriptor(.bitBucket, address: 0, length: 1024)
    let descriptors: [(place: Int, SGLDescriptor)] = [
      (0, block(0, 1000)), (16, bucket), (32, last(4096, 2)), (4096, block(1, 24)), (4112, block(2, 4096)),
    ]
    for (place, descriptor) in descriptors {
      (lists.base + place).storeBytes(of: descriptor, as: SGLDescriptor.self)
    }
    for sgl1 in [
      block(0, 4096), block(1, 8192), segment, last(4096, 2), bucket, block(0, 100), last(4096, 0),
      SGLDescriptor(.lastSegment, address: lists.address, length: 24), last(0, 3),
      SGLDescriptor(address: buffer.address, lengthAndIdentifier: 4096 | 5 << 60),
      SGLDescriptor(.dataBlock, address: 0x1000, length: 4096),
    ] {
      for opcode in [IOOpcode.write, .read] {
        var sqe = entry(opcode)
        sqe.cdw0 |= 1 << 14
        sqe.sgl1 = sgl1
        execute(sqe, on: &queue)
      }
    }
    try controller.delete(queue)
  }

  /// Every I/O command that transfers no blocks, and the logs that report them.
  private func playCommands() throws(HostError) {
    var queue = try controller.makeQueuePair(depth: 4)
    let buffer = try controller.share(64 << 10)
    for opcode in [
      IOOpcode.write, .compare, .verify, .copy, .writeZeroes, .compare, .datasetManagement, .flush,
      .reservationRegister,
    ] {
      var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0), nsid: 1)
      buffer.base.initializeMemory(as: UInt8.self, repeating: 1, count: 4096)
      sqe.prp1 = buffer.address
      switch opcode {
      case .copy: (buffer.base + 16).storeBytes(of: 7, as: UInt64.self)
      case .datasetManagement: buffer.base.storeBytes(of: 8 << 32, as: UInt64.self)
      default: sqe.cdw12 = 7
      }
      if opcode == .copy || opcode == .datasetManagement {
        (buffer.base + 8).storeBytes(of: 0, as: UInt64.self)
        sqe.cdw11 = opcode == .copy ? 0 : 4
        sqe.cdw10 = opcode == .copy ? 8 : 0
      }
      execute(sqe, on: &queue)
    }
    playFused(&queue, buffer)
    for page in LogPageID.allCases {
      try admin(.getLogPage) {
        $0.cdw10 = UInt32(page.rawValue) | 127 << 16
        $0.prp1 = buffer.address
      }
    }
    for feature in FeatureID.allCases {
      try admin(.getFeatures) {
        $0.cdw10 = UInt32(feature.rawValue)
        $0.nsid = feature.isOfNamespace ? 1 : 0
        $0.prp1 = buffer.address
      }
    }
    try controller.delete(queue)
  }

  /// A Compare and Write that succeeds, and one that does not.
  private func playFused(_ queue: inout QueuePair, _ buffer: SharedMemory) {
    for value in [0, 1] as [UInt8] {
      buffer.base.initializeMemory(as: UInt8.self, repeating: value, count: 4096)
      for (fuse, opcode) in [IOOpcode.compare, .write].enumerated() {
        var sqe = entry(opcode, slba: 64)
        sqe.cdw0 |= UInt32(fuse + 1) << 8
        _ = queue.submit(sqe, buffer: buffer.base + fuse * 4096, length: 4096)
      }
      reapAll(&queue)
    }
  }

  /// Interrupts after four entries, or 200 µs after the first.
  private func playCoalescing() throws(HostError) {
    try admin(.setFeatures) {
      $0.cdw10 = UInt32(FeatureID.interruptCoalescing.rawValue)
      $0.cdw11 = 3 | 2 << 8
    }
    var queue = try controller.makeQueuePair(depth: 8, vector: 1)
    let buffer = try controller.share(64 << 10)
    for count in [1, 4, 6, 2] {
      for index in 0..<count {
        _ = queue.submit(entry(.read), buffer: buffer.base + index * 4096, length: 4096)
      }
      reapAll(&queue)
      // Longer than the aggregation time, so that the timer is in the trace.
      let end = HostController.nowNs() + 2_000_000
      while HostController.nowNs() < end {}
    }
    try controller.delete(queue)
  }

  /// A device reset, a disable and a deletion of the queue with commands at backends.
  private func playResets() throws(HostError) {
    for round in 0..<3 {
      var queue = try controller.makeQueuePair(depth: 16)
      let buffer = try controller.share(64 << 10)
      for index in 0..<12 {
        _ = queue.submit(entry(.read), buffer: buffer.base + index * 4096, length: 4096)
      }
      queue.ring()
      // The first has completed, so the others have been fetched.
      while queue.reap(1, { _, _ in }) == 0 {}
      queue.ring()
      switch round {
      case 0: try controller.delete(queue)
      case 1:
        try controller.disable()
        try controller.enable()
      default:
        try controller.reset()
        try controller.enable()
      }
    }
  }

  /// Namespaces that are added and removed, and the events that report it.
  private func playNamespaces() throws(HostError) {
    let buffer = try controller.share(4096)
    for _ in 0..<2 {
      controller.submitAdmin(
        SubmissionEntry(opcode: AdminOpcode.asynchronousEventRequest.rawValue, cid: CommandID(0)))
    }
    for attaches in [true, false] {
      do throws(EndpointError) {
        if attaches {
          for nsid in [2, 7] as [UInt32] { try function.add(.init(nsid: nsid, backend: .memory(bytes: 1 << 20))) }
        } else {
          try function.remove(nsid: 7)
        }
      } catch { throw HostError(error.description) }
      while controller.reapAdmin().isEmpty {}
      try admin(.getLogPage) {
        $0.cdw10 = UInt32(LogPageID.changedNamespaces.rawValue) | 1023 << 16
        $0.prp1 = buffer.address
      }
      _ = try controller.identify(.activeNamespaces, nsid: 0)
    }
  }
}
