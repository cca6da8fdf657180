import Device
import Glibc
import Host
import NVMe
import Platform
import Synchronization
import Text

/// The built-in workload on several threads, each with a queue pair of one controller.
///
/// A separate thread enables the controller, waits for them and shuts it down, so that the calling thread waits only
/// for signals.
public final class Jobs: @unchecked Sendable {
  private let workload: Workload
  private let count: Int
  private let timeoutNs: UInt64
  /// Wait for interrupts instead of polling.
  private let usesInterrupts: Bool
  /// Whether problems are printed at once; they are kept in any case.
  private let complains: Bool
  private let kept = Mutex<[String]>([])
  private let stopFlag = StopFlag { complain("waiting for \($0); a second signal ends it immediately") }
  private let isOver = Atomic<Bool>(false)
  /// Results of the jobs that have finished, in order of completion.
  private let results = Mutex<[Workload.Result]>([])
  /// A job has been abandoned.
  private let isBroken = Atomic<Bool>(false)
  private var stoppedNs: UInt64?

  /// After a stop, the jobs have the time limit of a command, and the controller that of its shutdown. A longer wait
  /// means that the endpoint is lost.
  private var stopLimitNs: UInt64 { 2 * timeoutNs + 3_000_000_000 }

  public init(_ workload: Workload, count: Int, timeoutNs: UInt64, usesInterrupts: Bool = false, complains: Bool = true)
  {
    self.complains = complains
    self.usesInterrupts = usesInterrupts
    self.workload = workload
    self.count = count
    self.timeoutNs = timeoutNs
  }

  /// Whether the workload fits the endpoint, as far as that is known before there is one.
  public func check(_ configuration: EndpointConfiguration) throws {
    let subsystem = configuration.subsystem
    let (queues, entries) = (Int(subsystem.ioQueuesMax), Int(subsystem.queueEntriesMax))
    let block = 1 << Int(configuration.namespaces.first?.blockShift ?? 9)
    guard count <= queues else {
      throw Failure(description: "--numjobs \(count): each job needs a queue, and the endpoint has \(queues)")
    }
    guard workload.depth < entries else {
      throw Failure(description: "--iodepth \(workload.depth): a queue has room for \(entries - 1) commands")
    }
    let bytes = workload.blockBytes
    guard bytes > 0, bytes % block == 0, bytes <= subsystem.maxTransferBytes else {
      throw Failure(
        description:
          "--bs \(bytes) must be a multiple of \(block) bytes, at most \(subsystem.maxTransferBytes) (--mdts)")
    }
  }

  /// Run the workload to its end, or until a signal; a second one ends this process.
  /// - Returns: an exit status: 1 when a job or a command failed, or has not ended.
  public func run(on endpoint: ServedEndpoint, _ watch: Watch) -> Int32 {
    start(endpoint)
    while !areDone {
      if let arrival = OwnProcess.nextArrival(withinMs: 100), arrival.isEnding {
        stop()
        OwnProcess.endAtNextSignal()
      }
      watch.show()
    }
    if complains {
      if let failures { complain(failures) }
      for sentence in troubles { complain(sentence) }
    }
    return status
  }

  /// Whether all jobs have finished or exceeded their time.
  private var areDone: Bool {
    isOver.load(ordering: .acquiring) || stoppedNs.map { HostController.nowNs() - $0 >= stopLimitNs } ?? false
  }

  private func stop() {
    stopFlag.stop()
    stoppedNs = stoppedNs ?? HostController.nowNs()
  }

  private func start(_ endpoint: ServedEndpoint) {
    let (path, recording) = (endpoint.socketPath, endpoint.hostRecording)
    do throws(SystemError) {
      _ = try WorkerThread(name: "nvmepf-jobs") { [self] in
        do throws(HostError) {
          try run(HostController(path: path, recording: recording, timeoutNs: timeoutNs, stop: stopFlag))
        } catch { fail(error.description) }
        end()
      }
    } catch {
      fail("cannot start a thread for the workload: \(error)")
      end()
    }
  }

  private func end() {
    isOver.store(true, ordering: .releasing)
    kill(getpid(), SIGCHLD)
  }

  private func run(_ controller: HostController) throws(HostError) {
    let sleeps = usesInterrupts || HostController.needsSleep(threads: count, hasEngine: true)
    var threads: [WorkerThread] = []
    do throws(SystemError) {
      for job in 0..<count { threads.append(try thread(job, controller, sleeps: sleeps)) }
    } catch {
      fail("cannot start a thread for job \(threads.count) of \(count): \(error)")
      stopFlag.stop()
    }
    for thread in threads { thread.join() }
    // A device that has lost commands may not answer this either; disconnect from it.
    if !isBroken.load(ordering: .relaxed) { try controller.shutDown() }
  }

  private func thread(_ job: Int, _ controller: HostController, sleeps: Bool) throws(SystemError) -> WorkerThread {
    var workload = workload
    workload.seed = UInt64(job + 1)
    return try WorkerThread(name: "nvmepf-job\(job)") { [self, workload] in
      do throws(HostError) {
        let result = try workload.run(on: controller, sleeps: sleeps)
        results.withLock { $0.append(result) }
      } catch { fail(error.description) }
    }
  }

  /// Why jobs did not come to their end.
  public var problems: [String] { kept.withLock { $0 } }

  private func fail(_ problem: String) {
    if complains { complain(problem) }
    kept.withLock { $0.append(problem) }
    isBroken.store(true, ordering: .relaxed)
  }

  private var status: Int32 {
    guard isOver.load(ordering: .acquiring) else { return 1 }
    return failures != nil || !troubles.isEmpty || isBroken.load(ordering: .relaxed) ? 1 : 0
  }

  /// The results of all jobs that have ended, added up.
  public var total: Workload.Result {
    results.withLock { $0 }.reduce(into: Workload.Result()) { all, one in
      all.commands += one.commands
      if all.errors == 0 { all.firstError = one.firstError }
      all.errors += one.errors
      all.unexpected += one.unexpected
      all.timeouts += one.timeouts
      all.aborts += one.aborts
      all.resets += one.resets
      all.lost += one.lost
    }
  }

  /// What the host noticed besides failed commands.
  public var troubles: [String] {
    let total = total
    var all: [String] = []
    if total.unexpected > 0 {
      all.append(Quantity.count(total.unexpected, "completion") + " named no outstanding command")
    }
    if total.timeouts > 0 || total.resets > 0 {
      all.append(
        "\(Quantity.count(total.timeouts, "timeout")), \(Quantity.count(total.aborts, "abort")), "
          + "\(Quantity.count(total.resets, "reset")); \(Quantity.count(total.lost, "command")) given up")
    }
    return all
  }

  /// One line about the failed commands; nil if there are none.
  private var failures: String? {
    let total = total
    guard total.errors > 0 else { return nil }
    let status = total.firstError.rawValue
    return
      "\(Quantity.count(total.errors)) of \(Quantity.count(total.commands)) commands failed, the first with NVMe status "
      + "\(status.hex) (type \(status >> 8 & 7), code \((status & 0xff).hex))"
  }
}
