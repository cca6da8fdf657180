import ArgumentParser
import Host
import NVMe

/// Records the scenarios of `traces/`, each by driving the controller step by step.
struct GoldenCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "golden", abstract: "Record one of the golden traces anew.", shouldDisplay: false)

  enum Scenario: String, CaseIterable, ExpressibleByArgument {
    case qd1Read = "qd1-read"
    case qd32Mixed = "qd32-mixed"
    case bringUp = "bring-up"
    case errors
    case twoQueues = "two-queues"
  }

  @Argument(help: "Which.")
  var scenario: Scenario

  @Option(name: [.short, .customLong("output")], help: "The trace to write.")
  var output: String

  func run() throws {
    let endpoint = try EndpointOptions.parse(["--backend", "memory", "--size", "64MiB", "--queues", "4"])
    let session = try Session(
      endpoint, socketPath: nil, output: .trace(output), command: ["nvmepf", "golden", scenario.rawValue])
    session.start()
    let (path, recording, scenario) = (session.socketPath, session.hostRecording, scenario)
    try Failure.wrap { () throws(HostError) in
      let controller = try HostController(path: path, recording: recording)
      try GoldenCommand.play(scenario, controller)
      try controller.shutDown()
    }
    try session.finish()
  }

  private static func play(_ scenario: Scenario, _ controller: HostController) throws(HostError) {
    let stop = StopFlag()
    switch scenario {
    case .qd1Read:
      _ = try Workload(pattern: .randread, blockBytes: 4096, depth: 1, length: .commands(300))
        .run(on: controller, stop: stop)
    case .qd32Mixed:
      for kib in [4, 64, 512] {
        _ = try Workload(pattern: .randrw, blockBytes: kib << 10, depth: 32, length: .commands(64))
          .run(on: controller, stop: stop)
      }
    case .bringUp:
      for _ in 0..<3 {
        _ = try Workload(pattern: .randrw, blockBytes: 8192, depth: 2, length: .commands(10))
          .run(on: controller, stop: stop)
        try controller.shutDown()
        try controller.disable()
        try controller.enable()
      }
      try controller.reset()
      try controller.enable()
    case .errors: try playErrors(controller)
    case .twoQueues: try playTwoQueues(controller)
    }
  }

  /// Commands that the controller must refuse, and admin commands that it must refuse.
  private static func playErrors(_ controller: HostController) throws(HostError) {
    var queue = try controller.makeQueuePair(depth: 8)
    let buffer = try controller.share(1 << 20)
    var good = SubmissionEntry(opcode: IOOpcode.read.rawValue, cid: CommandID(0), nsid: 1)
    good.prp1 = buffer.address
    good.cdw12 = 7
    var commands: [SubmissionEntry] = []
    for edit in [
      { $0.slba = .max }, { $0.cdw0 = 0x7f }, { $0.prp1 += 2 }, { $0.nsid = 9 }, { $0.prp1 = 0x1000 },
      { $0.cdw12 = 0xffff }, { $0.cdw0 |= 1 << 14 },
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
      _ = queue.submit(sqe)
      queue.ring()
      while queue.reap(1, { _, _ in }) == 0 {}
    }
    try controller.delete(queue)
    for opcode in [0x7f, AdminOpcode.createIOSubmissionQueue.rawValue, AdminOpcode.deleteIOCompletionQueue.rawValue]
      as [UInt8]
    { _ = try controller.execute(SubmissionEntry(opcode: opcode, cid: CommandID(0))) }
  }

  /// Two queues with commands in both at once.
  private static func playTwoQueues(_ controller: HostController) throws(HostError) {
    var first = try controller.makeQueuePair(depth: 16)
    var second = try controller.makeQueuePair(depth: 16)
    let buffer = try controller.share(1 << 20)
    for round in 0..<20 as Range<UInt64> {
      for number in 0..<12 as Range<UInt64> {
        var sqe = SubmissionEntry(
          opcode: (number % 3 == 0 ? IOOpcode.write : .read).rawValue, cid: CommandID(0), nsid: 1)
        sqe.slba = (round * 12 + number) * 8
        sqe.cdw12 = 7
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
}
