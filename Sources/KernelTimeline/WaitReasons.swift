import Events
import KernelStreams

/// What one command of the driver waited behind, the longest first.
public struct WaitReasons: Sendable {
  /// What a command waits for.
  public enum Wait: Sendable {
    /// Its fetch, a worker, its completion queue's work item.
    case detect, dispatch, completion
  }

  /// What a CPU did for one work item meanwhile.
  public struct Reason: Sendable {
    public let item: WorkItem
    public fileprivate(set) var times = DriverTimes()
  }

  public static let reasonsMax = 10

  public let wait: Wait
  /// Of the command.
  public let controller: UInt16
  /// That then fetched it, or ran the worker or work item.
  public let cpu: UInt16
  /// At most `reasonsMax`.
  public let reasons: [Reason]
  /// How many more work items there were, and for how long together.
  public let others: Int
  public let othersNs: UInt64
  /// What the CPU did for none: polling, untraced and unknown. With the others it adds up to the wait.
  public let idle: DriverTimes

  public var totalNs: UInt64 { reasons.reduce(othersNs &+ idle.sum) { $0 &+ $1.times.sum } }

  fileprivate init(_ wait: Wait, of controller: UInt16, _ cpu: CPUTimeline, from begin: UInt64, to end: UInt64) {
    var times: [WorkItem: DriverTimes] = [:]
    var idle = DriverTimes()
    cpu.forEach(from: begin, to: end) { activity, item, ns in
      if activity.isWork {
        times[item, default: DriverTimes()][activity] &+= ns
      } else {
        idle[activity] &+= ns
      }
    }
    let known = times.values.reduce(idle.sum) { $0 &+ $1.sum }
    idle[.unknown] &+= end - begin - min(known, end - begin)
    let sorted = times.map { Reason(item: $0.key, times: $0.value) }.sorted {
      ($0.times.sum, $1.item) > ($1.times.sum, $0.item)
    }
    (self.wait, self.controller, self.cpu, self.idle) = (wait, controller, cpu.cpu, idle)
    reasons = Array(sorted.prefix(WaitReasons.reasonsMax))
    others = sorted.count - reasons.count
    othersNs = sorted.dropFirst(WaitReasons.reasonsMax).reduce(0) { $0 &+ $1.times.sum }
  }
}

/// Finds what commands of a controller waited behind, when a trace is read a second time.
public struct WaitFinder {
  private let controller: UInt16
  private var streams = KernelStreams()
  private var timeline = DriverTimeline()
  private var now: UInt64 = 0
  /// When the current run of each completion queue's work item began, and on which CPU.
  private var completionWork: [UInt16: (began: UInt64, cpu: UInt16)] = [:]

  public init(of controller: UInt16) { self.controller = controller }

  /// Continues in the middle of a trace.
  /// - Parameters:
  ///   - streams: with the owners until there.
  ///   - timeline: what CPUs have done until there.
  public init(of controller: UInt16, _ streams: KernelStreams, _ timeline: DriverTimeline) {
    (self.controller, self.streams, self.timeline) = (controller, streams, timeline)
  }

  /// Process the next record of a kernel stream; records of all streams must come in order of time.
  public mutating func ingest(_ record: Record, tail: UnsafeRawBufferPointer, stream: UInt16) {
    if record.event != .ringWait { now = max(now, record.time) }
    switch streams.ingest(record, tail: tail, stream: stream) {
    case .gap: timeline.restart()
    case .event(let kind, let owner):
      timeline.ingest(record, kind, owner, at: now)
      guard kind == .work, owner.isTarget(controller), Event.Work(record).work == .completionQueue else { return }
      completionWork[record.qid] = (now, owner.cpu)
    case .owner, nil: break
    }
  }

  /// Whether a host's driver recorded the stream.
  public func isHost(stream: UInt16) -> Bool { streams.owners[stream]?.role == .host }

  /// What the command waited behind whose event was ingested last, if it waited until this event.
  ///
  /// - Parameter waits: how long it waited for its fetch, for a worker and for its completion queue's work item, in
  ///   nanoseconds.
  public func reasons(
    _ record: Record, stream: UInt16, _ waits: (detect: UInt64, dispatch: UInt64, completion: UInt64)
  ) -> WaitReasons? {
    guard let owner = streams.owners[stream], owner.isTarget(controller) else { return nil }
    switch record.event {
    case .fetch where waits.detect > 0:
      let begin = now - min(UInt64(Event.Fetch(record).span), now)
      return reasons(.detect, on: owner.cpu, for: waits.detect, until: begin)
    case .work where Event.Work(record).work == .command && waits.dispatch > 0:
      return reasons(.dispatch, on: owner.cpu, for: waits.dispatch, until: now)
    case .completion where waits.completion > 0:
      guard let (began, cpu) = completionWork[Event.Completion(record).cqid] else { return nil }
      return reasons(.completion, on: cpu, for: waits.completion, until: began)
    default: return nil
    }
  }

  private func reasons(_ wait: WaitReasons.Wait, on cpu: UInt16, for ns: UInt64, until end: UInt64) -> WaitReasons? {
    timeline.timeline(of: cpu).map { WaitReasons(wait, of: controller, $0, from: end - min(ns, end), to: end) }
  }
}
