import Events
import KernelStreams

/// What each CPU did for nvmet-pci-epf, from the events of its target, and so what a command waited behind.
///
/// A work item runs on a CPU from its first event there until its end, until another one's event there, or until it goes
/// on elsewhere. Memory is bounded, whatever the events are.
public struct DriverTimeline: Sendable {
  private static let cpusMax = 64
  private static let controllersMax = 1024

  private var cpus: [CPUTimeline] = []
  /// By CPU, index in `cpus`.
  private var indices: [UInt16: Int] = [:]
  /// Index of the CPU of each open work item.
  private var places: [WorkItem: Int] = [:]
  /// By controller, index of the CPU that fetches.
  private var pollers: [UInt16: Int] = [:]

  /// Whose channels and workers are counted.
  private let subject: UInt16
  private var channels = InlineArray<3, ChannelUse>(repeating: ChannelUse())
  private var workers = OpenWorkers()
  private var countedSince: UInt64?
  /// Until when the use counts, and the use of channels and workers then.
  private var countedUntil: UInt64 = 0
  private var used: (channels: InlineArray<3, ChannelUse>, workers: OpenWorkers)

  /// - Parameter subject: the controller whose channels and workers are counted.
  public init(of subject: UInt16 = StreamOwner.noController) {
    self.subject = subject
    used = (channels, workers)
  }

  /// Process the next event of any controller of the target; events of all CPUs must come in order of time.
  /// - Returns: how much of a transfer's span the subject waited for the channel.
  @discardableResult
  public mutating func ingest(_ record: Record, _ kind: EventKind, _ owner: StreamOwner, at now: UInt64) -> UInt64 {
    guard owner.role == .target, let cpu = index(of: owner.cpu) else { return 0 }
    follow(record, kind, owner.number, on: cpu, at: now)
    guard owner.number == subject else { return 0 }
    switch kind {
    case .fetch:
      let fetch = Event.Fetch(record)
      return transfer(fetch.flags.contains(.window) ? .window : .fromHost, until: now, fetch.span)
    case .read:
      let read = Event.Read(record)
      return transfer(read.flags.contains(.window) ? .window : .fromHost, until: now, read.span)
    case .segment:
      let segment = Event.Segment(record)
      let channel: Channel = segment.flags.contains(.fromHost) ? .fromHost : .toHost
      return transfer(segment.flags.contains(.window) ? .window : channel, until: now, segment.span)
    default: return 0
    }
  }

  private mutating func transfer(_ channel: Channel, until now: UInt64, _ span: UInt32) -> UInt64 {
    channels[channel.rawValue].add(until: now, span: span)
  }

  /// What the event says of work items.
  private mutating func follow(
    _ record: Record, _ kind: EventKind, _ controller: UInt16, on cpu: Int, at now: UInt64
  ) {
    switch kind {
    case .fetch:
      let fetch = Event.Fetch(record)
      cpus[cpu].cover(.fetch, command(fetch, controller), until: now, span: fetch.span)
      poll(controller, on: cpu, at: now)
    case .work:
      let work = Event.Work(record)
      let item = item(work.work == .completionQueue, work, controller)
      cpus[cpu].advance(to: now)
      close(item, at: now)
      if item.isCommand { cpus[cpu].countStart() }
      run(item, item.isCommand ? .map : .completionWork, on: cpu, at: now)
    case .workEnd:
      let work = Event.WorkEnd(record)
      cpus[cpu].advance(to: now)
      close(item(work.work == .completionQueue, work, controller), at: now)
    case .request: resume(command(Event.Request(record), controller), .map, on: cpu, at: now)
    case .read:
      let read = Event.Read(record)
      resume(command(read, controller), .map, on: cpu, at: now, span: read.span)
    case .segment:
      let segment = Event.Segment(record)
      let activity: DriverActivity = segment.flags.contains(.fromHost) ? .dataIn : .dataOut
      resume(command(segment, controller), activity, on: cpu, at: now, span: segment.span)
    case .executeBegin: resume(command(Event.ExecuteBegin(record), controller), .execute, on: cpu, at: now)
    // These two may come from an interrupt of the backend, on any CPU.
    case .executeEnd: set(command(Event.ExecuteEnd(record), controller), .wakeUp, on: cpu, at: now)
    case .completionQueued: set(command(Event.CompletionQueued(record), controller), .complete, on: cpu, at: now)
    case .completion:
      let completion = Event.Completion(record)
      resume(.completionQueue(controller, completion.cqid), .completionWork, on: cpu, at: now)
      close(.command(controller, qid: completion.sqid, cid: completion.cid), at: now)
    case .interruptRequest:
      let cqid = Event.InterruptRequest(record).cqid
      resume(.completionQueue(controller, cqid), .completionWork, on: cpu, at: now)
    case .interrupt:
      resume(.completionQueue(controller, Event.Interrupt(record).cqid), .completionWork, on: cpu, at: now)
    case .dropped:
      cpus[cpu].advance(to: now)
      close(command(Event.Dropped(record), controller), at: now)
    default: cpus[cpu].advance(to: now)
    }
  }

  /// Events were lost: nothing before now is known.
  public mutating func restart() {
    for cpu in cpus.indices { cpus[cpu].restart() }
    places = [:]
    pollers = [:]
    workers.forget()
    for channel in channels.indices { channels[channel].forget() }
  }

  /// The subject's first I/O command began at this time, now or before: count what is used from here on, once.
  public mutating func count(since time: UInt64, at now: UInt64) {
    guard countedSince == nil else { return }
    (countedSince, countedUntil) = (time, time)
    for cpu in cpus.indices { cpus[cpu].count(since: time) }
    for channel in channels.indices { channels[channel].restart(since: time) }
    workers.restart(at: now)
  }

  /// An I/O command of the subject ended at this time, now or a moment before: count what is used until then.
  public mutating func count(until end: UInt64) {
    guard countedSince != nil, end > countedUntil else { return }
    countedUntil = end
    for cpu in cpus.indices { cpus[cpu].count(until: end) }
    used = (channels, workers)
    used.workers.change(by: 0, at: end)
  }

  // MARK: What they did

  /// - Parameter end: of the last I/O command.
  /// - Returns: nil before anything was counted.
  public func use(until end: UInt64, _ waits: DriverWaits) -> DriverUse? {
    guard let begin = countedSince, end > begin else { return nil }
    var counted = self
    counted.count(until: end)
    let (channels, workers, ns) = (counted.used.channels, counted.used.workers, counted.countedUntil - begin)
    return DriverUse(
      waits: waits, cpus: counted.cpus.map(\.use).sorted { $0.cpu < $1.cpu },
      channels: Channel.allCases.map { channels[$0.rawValue] },
      workersMean: min(Double(workers.countMax), Double(workers.area) / Double(ns)),
      workersMax: workers.countMax, durationNs: ns)
  }

  /// What a CPU did between two moments, of which `end` is the later; adds up to the time between them.
  public func times(of cpu: UInt16, from begin: UInt64, to end: UInt64) -> DriverTimes {
    guard let index = indices[cpu] else {
      var times = DriverTimes()
      times[.unknown] = end - min(begin, end)
      return times
    }
    return cpus[index].times(from: begin, to: end)
  }

  /// What a CPU has in hand at a moment.
  public struct CPUWorks: Equatable, Sendable {
    public let cpu: UInt16
    /// A work item that has begun and not ended, and what is done for it.
    public struct Work: Equatable, Sendable {
      public let item: WorkItem
      public let activity: DriverActivity
    }
    /// The last one runs; when it ends, the one before it goes on.
    public let works: [Work]
    /// The thread that polls a controller's submission queues runs here.
    public let isPolling: Bool
  }

  /// Now, by the numbers of the CPUs.
  public var openWorks: [CPUWorks] { cpus.map(\.works).sorted { $0.cpu < $1.cpu } }

  /// What CPUs did until now is not asked for any more; what they do now stays known.
  public mutating func forgetPast() {
    for cpu in cpus.indices { cpus[cpu].forgetPast() }
  }

  /// Nil if none of its events was seen.
  func timeline(of cpu: UInt16) -> CPUTimeline? { indices[cpu].map { cpus[$0] } }

  /// How many commands a worker started on a CPU.
  public func starts(on cpu: UInt16, from begin: UInt64, to end: UInt64) -> UInt64 {
    indices[cpu].map { cpus[$0].starts(from: begin, to: end) } ?? 0
  }

  // MARK: Work items

  private func command(_ event: some CommandEvent, _ controller: UInt16) -> WorkItem {
    .command(controller, qid: event.qid, cid: event.cid)
  }

  private func item(_ isCompletionQueue: Bool, _ work: some CommandEvent, _ controller: UInt16) -> WorkItem {
    isCompletionQueue ? .completionQueue(controller, work.qid) : command(work, controller)
  }

  /// Nil beyond the limit of CPUs.
  private mutating func index(of cpu: UInt16) -> Int? {
    if let index = indices[cpu] { return index }
    guard cpus.count < DriverTimeline.cpusMax else { return nil }
    var new = CPUTimeline(cpu: cpu)
    if let countedSince { new.count(since: countedSince) }
    new.count(until: countedUntil)
    cpus.append(new)
    indices[cpu] = cpus.count - 1
    return cpus.count - 1
  }

  /// The thread that polls the controller's submission queues is on this CPU.
  private mutating func poll(_ controller: UInt16, on cpu: Int, at now: UInt64) {
    let before = pollers[controller]
    guard before != cpu, before != nil || pollers.count < DriverTimeline.controllersMax else { return }
    if let before {
      cpus[before].advance(to: now)
      cpus[before].pollers -= 1
    }
    cpus[cpu].pollers += 1
    pollers[controller] = cpu
  }

  /// An event shows that the work item runs on this CPU, for the last `span` at least, and is in this activity.
  private mutating func resume(
    _ item: WorkItem, _ activity: DriverActivity, on cpu: Int, at now: UInt64, span: UInt32 = 0
  ) {
    cpus[cpu].cover(activity, item, until: now, span: span)
    if cpus[cpu].running != item {
      // Without its beginning, its end may be lost too.
      guard let place = places[item] else { return }
      if place != cpu { close(item, at: now) }
    }
    run(item, activity, on: cpu, at: now)
  }

  private mutating func run(_ item: WorkItem, _ activity: DriverActivity, on cpu: Int, at now: UInt64) {
    if cpus[cpu].running != item, places.updateValue(cpu, forKey: item) == nil { count(item, 1, at: now) }
    if let forgotten = cpus[cpu].run(item, activity), places.removeValue(forKey: forgotten) != nil {
      count(forgotten, -1, at: now)
    }
  }

  private mutating func count(_ item: WorkItem, _ change: Int, at now: UInt64) {
    if item.isCommand, item.controller == subject { workers.change(by: change, at: now) }
  }

  private mutating func set(_ item: WorkItem, _ activity: DriverActivity, on cpu: Int, at now: UInt64) {
    cpus[cpu].advance(to: now)
    guard let place = places[item] else { return }
    cpus[place].advance(to: now)
    cpus[place].set(item, activity)
  }

  private mutating func close(_ item: WorkItem, at now: UInt64) {
    guard let place = places.removeValue(forKey: item) else { return }
    count(item, -1, at: now)
    cpus[place].advance(to: now)
    cpus[place].close(item)
  }
}

/// How many workers have an open work item.
private struct OpenWorkers {
  private var count: UInt64 = 0
  private(set) var countMax: UInt64 = 0
  /// Their number, summed over nanoseconds.
  private(set) var area: UInt64 = 0
  private var last: UInt64 = 0

  mutating func change(by difference: Int, at now: UInt64) {
    area &+= count &* (now - min(last, now))
    (last, count) = (now, UInt64(max(0, Int(count) + difference)))
    countMax = max(countMax, count)
  }

  mutating func restart(at now: UInt64) { (area, countMax, last) = (0, count, now) }

  /// Events were lost.
  mutating func forget() { count = 0 }
}
