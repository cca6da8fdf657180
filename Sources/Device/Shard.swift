import Backends
import CPlatform
import Endpoint
import Glibc
import NVMe
import Platform
import Recording
import Synchronization
import Target
import Trace

/// A polling thread and the engine that it drives against a real host.
///
/// Other threads send requests to it, which it handles between two polls.
final class Shard: @unchecked Sendable {
  struct Configuration {
    var subsystem: Subsystem
    var namespaces: [(Namespace, NamespaceBackend)]
    /// Storage for files and devices; nil if there is none.
    var storage: StorageHandover?
    var core: Int?
    /// Idle for this long, the thread sleeps between polls, as the kernel's driver does.
    var idleMs: UInt32
    var napMs: UInt32
    var recording: EndpointRecording?
    var faults = FaultPlan()
    var faultCounts = FaultCounts()
    /// Takes the link down for so many nanoseconds; called on the engine's thread, it must not block.
    var loseLink: @Sendable (UInt64) -> Void = { _ in }
  }

  /// Idle passes between two reads of the clock, some microseconds.
  private static let passesPerLook = 256
  /// Idle passes between two checks of the doorbells of queues that do not exist.
  private static let passesPerStrayLook = 4096
  /// Passes between two checks of the engine's invariants if there are no checkpoints.
  private static let passesPerCheck = 1 << 16

  private let mailbox = Mailbox()
  /// The first page of doorbells.
  private let doorbells: UnsafeMutablePointer<Atomic<UInt32>>
  /// Signalled when the client's memory is gone.
  private let alarm: EventDescriptor
  private let tell: @Sendable (EndpointEvent) -> Void
  private let configuration: Configuration
  private var thread: WorkerThread?

  /// - Parameters:
  ///   - doorbells: the page that the host maps; it must outlive the shard, or the next `setDoorbells`.
  ///   - alarm: raised when the client's memory is gone.
  ///   - tell: called on the engine's thread; it must not block.
  init(
    _ configuration: Configuration, doorbells: UnsafeMutablePointer<Atomic<UInt32>>, alarm: EventDescriptor,
    tell: @escaping @Sendable (EndpointEvent) -> Void
  ) throws(SystemError) {
    self.alarm = alarm
    self.tell = tell
    self.configuration = configuration
    self.doorbells = doorbells
    let recording = configuration.recording
    thread = try WorkerThread(name: "nvmepf-shard0", core: configuration.core) { [self] in
      if let recording {
        let producer = RingProducer(recording.ring, whenFull: recording.whenFull)
        run(
          RingRecorder(
            producer, time: MachineTime(), keepsPayload: recording.keepsPayload,
            ticksPerSecond: recording.ticksPerSecond, stateHashEvery: recording.stateHashEvery))
      } else {
        run(NoRecorder())
      }
    }
  }

  /// Stop the engine and end its thread; its ring is then finished.
  func stop() {
    guard let thread else { return }
    ask(.stop)
    thread.join()
    self.thread = nil
  }

  // MARK: Requests

  /// Without io_uring a write to a client's event descriptor can block the engine's thread until it is interrupted.
  @discardableResult
  func ask(_ request: ShardRequest) -> UInt64 {
    // Without a limit there is always an answer.
    mailbox.ask(request, withinMs: nil) { thread?.interrupt() }!
  }

  /// How long threads other than the serving thread wait for the engine's.
  private static let answerLimitMs = 3000

  /// - Returns: nil if the engine's thread does not answer. It may handle the request later.
  func askWithLimit(_ request: ShardRequest) -> UInt64? {
    mailbox.ask(request, withinMs: Shard.answerLimitMs) { thread?.interrupt() }
  }

  // MARK: The engine's thread

  private func run<R: Recorder & ~Copyable>(_ recorder: consuming R) {
    let live = LivePort(
      time: MachineTime(), doorbells: doorbells, vectors: Int(configuration.subsystem.vectors),
      storage: configuration.storage)
    if configuration.faults.isEmpty {
      run(RecordingPort(live, recorder))
    } else {
      let port = FaultPort(
        live, configuration.faults, configuration.faultCounts, loseLink: configuration.loseLink)
      run(RecordingPort(port, recorder))
    }
  }

  private func run<P: LivePortHolder & ~Copyable, R: Recorder & ~Copyable>(_ port: consuming RecordingPort<P, R>) {
    port.inner.live.memory.guardThread()
    for (namespace, backend) in configuration.namespaces { port.inner.live.backends.set(namespace.nsid, backend) }
    var controller = Controller(configuration.subsystem, namespaces: configuration.namespaces.map(\.0))
    let state = UnsafeMutableRawBufferPointer.allocate(byteCount: Controller.checkpointBytesMax, alignment: 16)
    defer { state.deallocate() }
    if R.isOn { checkpoint(&controller, &port, state) }
    var hasToldLoss = false
    var told = Told()
    var idleness = Idleness(backoff: .serving(idleMs: configuration.idleMs))
    var passes = 0
    while true {
      if mailbox.isFull {
        guard answer(&controller, &port) else { return port.recorder.finish() }
        endIdleness(&idleness, &port)
      }
      let now = port.beginPass()
      if controller.poll(&port) {
        endIdleness(&idleness, &port)
      } else {
        rest(&controller, &port, &idleness)
      }
      port.inner.live.backends.endPass()
      if port.inner.live.memory.isLost != hasToldLoss {
        hasToldLoss.toggle()
        if hasToldLoss { raiseAlarm() }
      }
      if told != Told(controller) { tellChanges(controller, &port, &told) }
      if R.isOn {
        if port.recorder.isCheckpointDue(now: now) {
          checkpoint(&controller, &port, state)
        } else if port.recorder.isStateHashDue() {
          hashState(&controller, &port)
        }
      } else {
        passes &+= 1
        if passes % Shard.passesPerCheck == 0 { controller.checkBounds() }
      }
    }
  }

  /// The controller as last reported by `tell`.
  private struct Told: BitwiseCopyable, Equatable {
    var isReady = false
    var isFatal = false
    var queues = 0

    init() {}

    @inline(__always)
    init(_ controller: borrowing Controller) {
      isReady = controller.csts.ready
      isFatal = controller.csts.fatal
      queues = controller.submissionQueueCount
    }
  }

  @inline(never)
  private func tellChanges<P: LivePortHolder & ~Copyable, R: Recorder & ~Copyable>(
    _ controller: borrowing Controller, _ port: inout RecordingPort<P, R>, _ told: inout Told
  ) {
    let now = Told(controller)
    if now.isReady != told.isReady { tell(now.isReady ? .enabled : .disabled) }
    if now.isFatal, !told.isFatal {
      let reason = port.inner.live.unreached?.reason(isGone: port.inner.live.memory.isLost)
      tell(.fatal(reason: reason ?? "the host enabled it with unsupported values"))
    }
    if now.queues != told.queues { tell(.queues(count: now.queues)) }
    if !now.isFatal { port.inner.live.unreached = nil }
    told = now
  }

  @inline(never)
  private func raiseAlarm() { alarm.raise() }

  private func checkpoint<P: LivePortHolder & ~Copyable, R: Recorder & ~Copyable>(
    _ controller: inout Controller, _ port: inout RecordingPort<P, R>, _ state: UnsafeMutableRawBufferPointer
  ) {
    let begin = port.recorder.time.ticks()
    controller.checkInvariants()
    let count = controller.encode(into: state)
    port.recorder.checkpoint(UnsafeRawBufferPointer(rebasing: state[..<count]), since: begin)
  }

  @inline(never)
  private func hashState<P: LivePortHolder & ~Copyable, R: Recorder & ~Copyable>(
    _ controller: inout Controller, _ port: inout RecordingPort<P, R>
  ) {
    let begin = port.recorder.time.ticks()
    port.recorder.note(controller.stateHash(), since: begin)
  }

  /// State of the thread while there is no work.
  private struct Idleness {
    var passes = 0
    var backoff: Backoff
    /// Tick of the first yield; 0 before that.
    var restBegin: UInt64 = 0
    var hasSlept = false

    init(backoff: Backoff) { self.backoff = backoff }

    @inline(__always)
    mutating func end() {
      (passes, restBegin, hasSlept) = (0, 0, false)
      backoff.restart()
    }
  }

  /// Nothing to do: follow `Backoff` while the host may ring a doorbell, sleep while it cannot.
  @inline(__always)
  private func rest<P: LivePortHolder & ~Copyable, R: Recorder & ~Copyable>(
    _ controller: inout Controller, _ port: inout RecordingPort<P, R>, _ idleness: inout Idleness
  ) {
    // Requests abandoned by a reset are waited for like those in flight.
    guard controller.csts.ready || controller.executing > 0, !controller.csts.fatal else {
      return mailbox.wait(milliseconds: controller.timers > 0 || controller.executing > 0 ? 1 : 100)
    }
    idleness.passes += 1
    if idleness.passes % Shard.passesPerLook == 0 { restLonger(&controller, &port, &idleness) }
  }

  @inline(never)
  private func restLonger<P: LivePortHolder & ~Copyable, R: Recorder & ~Copyable>(
    _ controller: inout Controller, _ port: inout RecordingPort<P, R>, _ idleness: inout Idleness
  ) {
    if idleness.passes % Shard.passesPerStrayLook == 0, controller.findStrayDoorbells(&port) { return }
    let step = idleness.backoff.step(now: Clock.monotonicNs())
    if step == .spin { return }
    if idleness.restBegin == 0 { idleness.restBegin = Clock.ticks() }
    if step == .yield {
      sched_yield()
    } else {
      idleness.hasSlept = true
      // Do not sleep past a timer or a completion.
      let isWaiting = controller.executing > 0 || controller.timers > 0
      mailbox.wait(milliseconds: isWaiting ? 1 : Int(configuration.napMs))
    }
  }

  /// There is work again.
  @inline(__always)
  private func endIdleness<P: LivePortHolder & ~Copyable, R: Recorder & ~Copyable>(
    _ idleness: inout Idleness, _ port: inout RecordingPort<P, R>
  ) {
    if idleness.passes == 0 { return }
    if idleness.restBegin != 0 { port.didRest(since: idleness.restBegin, slept: idleness.hasSlept) }
    idleness.end()
  }

  /// - Returns: false if the thread must end.
  @inline(never)
  private func answer<P: LivePortHolder & ~Copyable, R: Recorder & ~Copyable>(
    _ controller: inout Controller, _ port: inout RecordingPort<P, R>
  )
    -> Bool
  {
    var answer: UInt64 = 0
    var goesOn = true
    switch mailbox.receive() {
    case .readRegister(let offset, let width):
      answer = controller.readRegister(offset: offset, width: width, &port)
    case .writeRegister(let offset, let width, let value):
      controller.writeRegister(offset: offset, width: width, value: value, &port)
    case .map(let range):
      answer = port.inner.live.memory.add(range) ? 1 : 0
      if answer == 1 { port.didMap(address: range.address, length: range.length) }
    case .unmap(let address, let length):
      port.inner.live.memory.remove(address: address, length: length)
      port.didUnmap(address: address, length: length)
    case .setDoorbells(let doorbells): port.inner.live.doorbells = doorbells
    case .setInterrupt(let line, let signal, let descriptor):
      let error = signal?.attach(descriptor) ?? 0
      let isSignalled = descriptor >= 0 && error == 0
      port.inner.live.interrupts.set(line, isSignalled ? signal : nil)
      if case .pin = line, isSignalled { settlePin(&controller, &port) }
      answer = UInt64(UInt32(bitPattern: error))
    case .triggerInterrupt(let line): port.inner.live.interrupts.trigger(line)
    case .maskPin: port.inner.live.interrupts.maskPin()
    case .unmaskPin:
      port.inner.live.interrupts.unmaskPin()
      settlePin(&controller, &port)
    case .disablePin(let isDisabled):
      port.inner.live.interrupts.pinIsDisabled = isDisabled
      settlePin(&controller, &port)
    case .readPin: answer = settlePin(&controller, &port) ? 1 : 0
    case .removeInterrupts: port.inner.live.interrupts.removeAll()
    case .reset(let reason): controller.reset(reason, &port)
    case .attach(let namespace, let backend):
      guard !port.inner.live.backends.isBusy(namespace.nsid) else { break }
      port.inner.live.backends.set(namespace.nsid, backend)
      controller.attach(namespace, &port)
      answer = 1
    case .detach(let nsid):
      controller.detach(nsid, &port)
      port.inner.live.backends.remove(nsid)
    case .stop: goesOn = false
    }
    mailbox.reply(answer)
    return goesOn
  }

  /// Signal INTx if it is asserted and not yet signalled: entries that the host has freed meanwhile do not assert it.
  /// - Returns: whether it is asserted.
  @discardableResult
  private func settlePin<P: LivePortHolder & ~Copyable, R: Recorder & ~Copyable>(
    _ controller: inout Controller, _ port: inout RecordingPort<P, R>
  )
    -> Bool
  {
    _ = port.beginPass()
    controller.poll(&port)
    port.inner.live.backends.endPass()
    let isAsserted = controller.assertsPin
    if isAsserted { port.inner.live.interrupts.raisePin() }
    return isAsserted
  }
}
