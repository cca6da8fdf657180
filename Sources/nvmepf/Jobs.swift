import Glibc
import Host
import Live
import NVMe
import Synchronization

/// The built-in workload on several threads, each with a queue pair of one controller.
final class Jobs: @unchecked Sendable {
  private let workload: Workload
  private let count: Int
  private let stopFlag = StopFlag()
  private let running = Atomic<Int>(0)
  private let failed = Atomic<Bool>(false)
  private var threads: [WorkerThread] = []
  private var controller: HostController?

  init(_ workload: Workload, count: Int) {
    self.workload = workload
    self.count = count
  }

  var areDone: Bool { running.load(ordering: .acquiring) == 0 }

  func stop() { stopFlag.stop() }

  func start(_ session: Session) throws(Failure) {
    let recording = session.hostRecording
    let path = session.socketPath
    let controller = try Failure.wrap { () throws(HostError) in
      try HostController(path: path, recording: recording)
    }
    self.controller = controller
    running.store(count, ordering: .relaxed)
    for job in 0..<count {
      var workload = workload
      workload.seed = UInt64(job + 1)
      threads.append(WorkerThread(name: "nvmepf-job\(job)") { [self, workload] in run(workload) })
    }
  }

  private func run(_ workload: Workload) {
    do throws(HostError) {
      let result = try workload.run(on: controller!, stop: stopFlag)
      if result.errors > 0 { failed.store(true, ordering: .relaxed) }
    } catch {
      complain(error.description)
      failed.store(true, ordering: .relaxed)
    }
    running.subtract(1, ordering: .releasing)
    kill(getpid(), SIGCHLD)
  }

  /// - Returns: an exit status: 1 when a job or a command failed.
  func finish() throws(Failure) -> Int32 {
    for thread in threads { thread.join() }
    let controller = controller!
    try Failure.wrap { () throws(HostError) in try controller.shutDown() }
    self.controller = nil
    return failed.load(ordering: .relaxed) ? 1 : 0
  }
}
