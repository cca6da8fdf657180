import Analysis
import Chance
@_spi(Places) import Events
import Evidence
import Foundation
import KernelTimeline
import Testing
import Trace

@testable import Report

/// What the report says of recordings of the kernel's target, word by word.
@Suite("The report on a kernel's trace")
struct KernelReportTests {
  private func summary(_ build: (KernelTrace) -> Void) throws -> Summary {
    let trace = try KernelTrace()
    trace.bringUp()
    build(trace)
    return try Summary(of: trace.finish(), .controller(1))
  }

  private func findings(_ build: (KernelTrace) -> Void) throws -> [String] { Report.findings(try summary(build)) }

  private var goldenReader: TraceReader {
    get throws {
      let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
      return try TraceReader(path: root + "/traces/nvmet-pci-epf.nvpt")
    }
  }

  private var golden: Summary {
    get throws {
      let reader = try goldenReader
      let busiest = try #require(try KernelController.all(in: reader).first)
      return try Summary(of: reader, .controller(busiest.controller))
    }
  }

  @Test("of a board's recording: every sentence")
  func sentences() throws {
    #expect(
      Report.findings(try golden) == [
        "1 command (0.1%) failed; the statuses are below.",
        "Waiting for a worker (dispatch) dominates: 1.68 ms of the 2.61 ms of a typical command (64%), then complete with "
          + "379 µs (15%) and detect with 228 µs (9%). The median is 2.62 ms, the mean 3.92 ms.",
        "The probes cost up to 124 µs a command: 33,919 runs took 91.1 ms. The times here include that.",
        "Waiting takes 3.33 ms of the mean (85%): 614 µs until the fetch begins, 2.27 ms until a worker starts the command, "
          + "385 µs until the work of its completion queue runs.",
        "Of the 2.27 ms until a worker starts, its CPU served other commands, 3.46 of which started during the wait, for "
          + "1.21 ms (execute 434 µs, data-out 376 µs, map 173 µs, data-in 134 µs), and ran no traced work for 1.06 ms: the "
          + "worker waited to be scheduled, on the CPU that polls the submission queues.",
        "Of the 385 µs until the completion queue's work runs, its CPU served commands for 361 µs (data-out 148 µs, execute "
          + "98.7 µs, data-in 45.1 µs, map 43.9 µs), and ran no traced work for 24.3 µs: the work waited to be scheduled, "
          + "on the CPU that polls the submission queues.",
        "Of the 614 µs until the fetch begins, its CPU served other commands for 531 µs (execute 280 µs, data-out 96.6 µs, "
          + "map 78.2 µs, data-in 31.0 µs), and ran no traced work for 82.4 µs: the thread that polls the submission queues "
          + "had not looked yet, or waited to be scheduled.",
        "Commands waited 61.3 µs of the mean (2%) for other commands' transfers: 44 of 4,208 transfers found the DMA channel "
          + "from the host occupied, 28 of 5,051 found the DMA channel to the host occupied.",
        "Nothing in the driver is saturated. CPU 0 is busy 6% of the time, the DMA channel to the host 2%, the DMA channel "
          + "from the host 1%. That is on average: commands come in bursts, 0.80 in flight in the mean and 32 at most.",
        "734 commands in 3.61 s, 203 a second. The mean queue depth is 0.80; the maximum is 32.",
        "Data moved: 26.7 MB (7.42 MB/s) to the host, 16.6 MB (4.59 MB/s) from the host.",
        "1 command left out because events were lost.",
        "The controller was reset or disabled once after the first command.",
      ])
  }

  @Test("of a board's recording: what CPUs did while commands waited adds up to their waits")
  func addsUp() throws {
    let driver = try #require(try golden.driver)
    let handoffs = try #require(try golden.handoffs)
    #expect(driver.waits.dispatch.sum == handoffs.dispatch.sumNs && handoffs.dispatch.sumNs > 0)
    #expect(driver.waits.completion.sum == handoffs.completion.sumNs && handoffs.completion.sumNs > 0)
    let io = try golden.io
    #expect(abs(Double(driver.waits.detect.sum) - io.waitingMeanNs(Stage.detect) * Double(io.commands)) < 1)
  }

  @Test("of one read: every sentence")
  func oneRead() throws {
    var sentences = try findings { $0.read(7, slot: 0) }
    #expect(
      sentences.remove(at: 4).hasPrefix("1 command in 317 ns, 3,154,574 a second. The mean queue depth is 1.00; "))
    #expect(
      sentences == [
        "The statistics are of 1 command only: the mean is 317 ns, of which execute is 100 ns.",
        "Waiting takes 65 ns of the mean (21%): 30 ns until a worker starts the command, 35 ns until the work of its "
          + "completion queue runs.",
        "Of the 30 ns until a worker starts, its CPU ran no traced work for 30 ns: the worker waited to be scheduled, on the "
          + "CPU that polls the submission queues.",
        "Of the 35 ns until the completion queue's work runs, its CPU served commands for 10 ns (end of work 10 ns), and ran "
          + "no traced work for 25 ns: the work waited to be scheduled, on the CPU that polls the submission queues.",
        "Data moved: 4.10 kB (12.9 GB/s) to the host.",
        "30 ns of the mean (9.5%) is between the stages: the driver's work that no probe bounds.",
        "Detect and reap are missing: a target does not see when the host writes a doorbell. Merge it with a trace of the host.",
        "No event was lost, and no command is left out.",
      ])
  }

  /// Two reads, of which the second waits while a worker serves the first; then its completion queue's work runs late.
  private func twoReads() throws -> Summary {
    try summary {
      $0.fetch(7, slot: 0)
      $0.fetch(8, slot: 1)
      for cid in [7, 8] as [UInt16] {
        // Queued for 50 ns, and for 50 + 300 + 20 ns.
        $0.add(.work, qid: 1, cid: cid, b: cid == 7 ? 50 : 370, after: cid == 7 ? 50 : 20)
        $0.add(.request, flags: 2, qid: 1, cid: cid, after: 10)
        $0.add(.executeBegin, flags: 2, qid: 1, cid: cid, after: 10)
        $0.add(.executeEnd, qid: 1, cid: cid, a: 4096 << 32, after: 200)
        $0.add(.segment, qid: 1, cid: cid, a: 0x80000, b: 4096 | 40 << 32, after: 60)
        $0.add(.completionQueued, qid: 1, cid: cid, after: 10)
        $0.add(.workEnd, qid: 1, cid: cid, after: 10)
      }
      $0.add(.work, flags: 1, qid: 1, after: 30)
      for cid in [7, 8] as [UInt16] {
        $0.add(.completion, qid: 1, cid: cid, b: UInt64(cid - 6) | 1 << 16 | UInt64(cid) << 32 | 1 << 48)
      }
      $0.add(.interrupt, qid: 1, b: 1)
      $0.add(.workEnd, flags: 1, qid: 1)
    }
  }

  @Test("splits waits by what the CPU did, in sentences, tables and JSON")
  func behind() throws {
    let summary = try twoReads()
    let driver = try #require(summary.driver)
    let (dispatch, completion) = (driver.waits.dispatch, driver.waits.completion)
    #expect(dispatch[.polling] == 50 + 50 + 20 && dispatch[.map] == 20 && dispatch[.execute] == 200)
    #expect(dispatch[.wakeUp] == 20 && dispatch[.dataOut] == 50 && dispatch[.complete] == 10)
    #expect(dispatch.sum == 420 && driver.waits.started == 1)
    // The first command waited while a worker served the second.
    #expect(completion[.map] == 20 && completion[.execute] == 200 && completion[.complete] == 30)
    #expect(completion.sum == 400)
    let sentences = Report.findings(summary)
    #expect(
      sentences.contains(
        "Of the 210 ns until a worker starts, its CPU served other commands, 0.50 of which started during the wait, for "
          + "150 ns (execute 100 ns, data-out 25 ns, map 10 ns, executed → data-out 10 ns), and ran no traced work for 60 ns: "
          + "the worker waited to be scheduled, on the CPU that polls the submission queues."))
    let text = Report.text(summary)
    #expect(text.contains("\nns                    fetch  worker  completion work\n"))
    #expect(text.contains("\ntotal                     -   210.0            200.0\n"))
    let json = try #require(
      JSONSerialization.jsonObject(with: Data(Report.json(summary).utf8)) as? [String: Any])
    let object = try #require(json["driver"] as? [String: Any])
    #expect((object["dispatch_behind_ns"] as? [String: Double])?["execute"] == 100)
    #expect(object["started_meanwhile"] as? Double == 0.5)
  }

  @Test("counts the use of CPUs and channels until the last command ends, whatever follows")
  func useEnds() throws {
    let alone = try #require(try summary { $0.read(7, slot: 0) }.driver)
    let followed = try summary {
      $0.read(7, slot: 0)
      $0.fetch(8, slot: 1)
      $0.add(.gap, a: 3)
    }
    let driver = try #require(followed.driver)
    #expect(driver.durationNs == alone.durationNs && driver.cpus[0].busyNs == alone.cpus[0].busyNs)
    #expect(driver.channels.map(\.transfers) == alone.channels.map(\.transfers))
  }

  @Test("names the commands that each of the slowest waited behind; they add up to its waits")
  func waitedBehind() throws {
    let reader = try goldenReader
    let subject = Subject.controller(try #require(try KernelController.all(in: reader).first).controller)
    let slowest = Kept(SlowestCommands(20))
    _ = try Summary(of: reader, subject) { if $0.qid != .admin { slowest.value.add($0) } }
    let lives = try CommandLife.read(slowest.value.commands, of: reader, subject)
    #expect(lives.count == 20)
    for life in lives {
      #expect(life.events.suffix(3).map(\.stage) == [.complete, .interrupt, .reap])
      let handoffs = try #require(life.times.handoffs)
      let expected = [life.times.waiting[.detect], handoffs.dispatch, handoffs.completion].filter { $0 > 0 }
      #expect(life.waits.map(\.totalNs) == expected)
      for wait in life.waits {
        let times = wait.reasons.map(\.times.sum)
        #expect(times == times.sorted(by: >) && times.count <= WaitReasons.reasonsMax)
        #expect(wait.othersNs > 0 ? wait.others > 0 && times.count == WaitReasons.reasonsMax : wait.others == 0)
      }
    }
    let text = Report.text(try #require(lives.first { $0.times.cid.rawValue == 8792 }))
    #expect(
      text.hasSuffix(
        """
        It waited 25.9 µs until its completion queue's work ran, on CPU 0, behind
          13.4 µs  command 25152 of queue 1: data-out 13.4 µs
          12.5 µs  its own worker: end of work 12.5 µs
        """))
    #expect(
      text.contains(
        """

        It waited 6.65 ms until its fetch, on CPU 0, behind
          4.94 ms  command 16963 of queue 1: execute 4.94 ms
           551 µs  command 582 of queue 1: data-out 439 µs, execute 69.7 µs, map 31.7 µs

        """))
    #expect(text.contains("\n   840 µs  16 more work items\n"))
  }

  @Test("adds up, whatever the events are", arguments: 0..<20 as Range<UInt64>)
  func hostile(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let trace = try KernelTrace()
    trace.bringUp()
    for number in 0..<20 as Range<UInt16> {
      trace.read(number, slot: 0)
      for _ in 0..<50 { trace.addAny(&random) }
    }
    let reader = try trace.finish()
    let slowest = Kept(SlowestCommands(10))
    let summary = try Summary(of: reader, .controller(1)) { slowest.value.add($0) }
    let lives = try CommandLife.read(slowest.value.commands, of: reader, .controller(1))
    #expect(!Report.text(summary, lives).isEmpty && !Report.json(summary, lives).isEmpty)
    guard let driver = summary.driver, let handoffs = summary.handoffs else { return }
    #expect(driver.waits.dispatch.sum == handoffs.dispatch.sumNs)
    #expect(driver.waits.completion.sum == handoffs.completion.sumNs)
  }

  private final class Kept<Value> {
    var value: Value
    init(_ value: Value) { self.value = value }
  }

  @Test("names faults of the driver, in one sentence each")
  func faults() throws {
    let twice = try findings {
      $0.read(7, slot: 0, .twice)
      $0.read(8, slot: 1)
    }
    #expect(
      twice.contains(
        "The driver posted a second completion for 1 command; nvmepf replay names them.")
    )
    let silent = try findings {
      $0.read(7, slot: 0)
      $0.read(8, slot: 1, .noInterrupt)
      $0.read(9, slot: 2, .noInterrupt)
      $0.read(10, slot: 3)
      $0.bringUp()
    }
    #expect(
      silent.contains {
        $0.hasSuffix(" completed without an interrupt: the host polls the queue, or the interrupt is missing.")
      })
    let failed = try findings {
      $0.read(7, slot: 0)
      $0.read(8, slot: 1, .fails)
    }
    #expect(failed.contains("1 command (50.0%) failed; the statuses are below."))
  }

  @Test("names the commands that had not completed when the trace ended")
  func unfinished() throws {
    let summary = try summary {
      $0.read(7, slot: 0)
      $0.fetch(8, slot: 1)
      $0.add(.work, qid: 1, cid: 8, b: 5)
    }
    #expect(Report.findings(summary).contains("1 command had not completed when the trace ended."))
    #expect(
      UnfinishedText(summary)?.lines == [
        "command 8 of queue 1 (read), 20 ns old; last event 44, work, at the end; fetched, not executed"
      ])
  }

  @Test("lists a fetch that the driver could not make, which stops nothing")
  func failedFetch() throws {
    let summary = try summary {
      $0.add(.fetch, flags: Event.Fetch.Flags.failed.rawValue, qid: 1, bytes: [UInt8](repeating: 0, count: 64))
      $0.add(.dropped, flags: Event.Fetch.Flags.failed.rawValue, qid: 1)
      $0.read(7, slot: 0)
    }
    #expect(summary.hostBehaviour.map(\.kind) == [.failedFetch] && summary.hostBehaviour[0].section == "4.1.1")
    #expect(!summary.hostBehaviour[0].isFatal && summary.stops == nil && summary.partial == 0)
  }

  @Test("says how many events were lost, and how many commands that costs")
  func missing() throws {
    let sentences = try findings {
      $0.read(7, slot: 0)
      $0.fetch(8, slot: 1)
      $0.add(.gap, a: 3)
    }
    #expect(
      sentences.contains(
        "3 events were lost, in 1 gap; 1 command left out because events were lost."))
    #expect(!sentences.contains { $0.hasPrefix("No event was lost") })
  }

  @Test("says what a reset ended")
  func reset() throws {
    let sentences = try findings {
      $0.read(7, slot: 0)
      $0.fetch(8, slot: 1)
      $0.register(0x14, 0)
    }
    #expect(!sentences.contains { $0.contains("reset or disabled") }, "nothing comes after it")
    #expect(
      sentences.contains(
        "1 command did not complete because the host reset the controller (CC.EN)."))
  }

  @Test("without an I/O command says so, and what there is")
  func nothing() throws {
    #expect(
      try findings { _ in }.first
        == "The trace contains no complete I/O command, only 2 admin commands.")
  }

  @Test("says what the probes cost, and how exact a host's clock is")
  func costs() throws {
    let trace = try KernelTrace()
    trace.bringUp()
    trace.read(7, slot: 0)
    trace.add(.probe, flags: Record.carriesBytesFlag, a: 10, b: 5 | 200 << 32, bytes: Array("probe".utf8))
    var summary = try Summary(of: trace.finish(), .controller(1))
    summary.hostClockBoundNs = 1200
    let sentences = Report.findings(summary)
    #expect(
      sentences.contains(
        "The probes cost up to 2.00 µs a command: 10 runs took 2.00 µs. The times here include that."))
    #expect(
      sentences.contains(
        "Host times are accurate to ±1.20 µs; detect and reap inherit that."))
  }

  @Test("of our endpoint leaves the kernel's events out, and says so")
  func endpoint() throws {
    let trace = try KernelTrace()
    trace.bringUp()
    let summary = try Summary(of: trace.finish())
    #expect(
      Report.findings(summary).contains { $0.hasSuffix(" kernel events are not analysed here; see --controller.") })
  }
}
