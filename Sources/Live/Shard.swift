import CPlatform
import Endpoint
import Glibc
import NVMe
import Synchronization
import Target
import Trace

/// One polling thread and the engine that it drives against a real host.
///
/// Other threads speak to the engine through requests, which it takes between two polls.
final class Shard: @unchecked Sendable {
  struct Configuration {
    var subsystem: Subsystem
    var namespaces: [(Namespace, NamespaceBackend)]
    /// What files and devices need; nil where there can be none.
    var storage: StorageHandover?
    var core: Int?
    /// Idle this long, the thread naps between polls, as the kernel's driver does.
    var idleMs: UInt32
    var napMs: UInt32
    var recording: Recording?
  }

  /// Where and how to record.
  struct Recording {
    var ring: Ring
    var whenFull: FullRing
    var keepsPayload: Bool
    var ticksPerSecond: UInt64
  }

  /// Idle passes between two looks at the clock.
  private static let passesPerLook = 4096

  private let mailbox = Mailbox()
  private let doorbells: UnsafeMutablePointer<Atomic<UInt32>>
  private let configuration: Configuration
  private var thread: WorkerThread?

  /// - Parameter doorbells: the page that the host maps; it must outlive the shard.
  init(_ configuration: Configuration, doorbells: UnsafeMutablePointer<Atomic<UInt32>>) {
    self.configuration = configuration
    self.doorbells = doorbells
    let recording = configuration.recording
    thread = WorkerThread(name: "nvmepf-shard0", core: configuration.core) { [self] in
      if let recording {
        let producer = RingProducer(recording.ring, whenFull: recording.whenFull)
        run(
          RingRecorder(
            producer, keepsPayload: recording.keepsPayload, ticksPerSecond: recording.ticksPerSecond))
      } else {
        run(NoRecorder())
      }
    }
  }

  /// Stop the engine and end its thread; its ring is finished then.
  func stop() {
    guard let thread else { return }
    _ = ask(.stop)
    thread.join()
    self.thread = nil
  }

  // MARK: Requests

  /// A client whose event descriptor is full, and blocking, has the engine's thread wait in a write. It costs that client
  /// its interrupt, and nobody else the answer.
  private func ask(_ request: ShardRequest) -> UInt64 { mailbox.ask(request) { thread?.interrupt() } }

  func readRegister(offset: UInt64, width: Int) -> UInt64 {
    ask(.readRegister(offset: offset, width: width))
  }

  func writeRegister(offset: UInt64, width: Int, value: UInt64) {
    _ = ask(.writeRegister(offset: offset, width: width, value: value))
  }

  func map(_ range: MemoryMap.Range) -> Bool { ask(.map(range)) != 0 }

  /// Once this returns, nothing in the range is touched any more.
  func unmap(address: UInt64, length: UInt64) { _ = ask(.unmap(address: address, length: length)) }

  /// Once this returns, the descriptor before is not signalled any more.
  func setInterrupt(_ line: InterruptLine, descriptor: Int32) {
    _ = ask(.setInterrupt(line, descriptor: descriptor))
  }

  /// Raise the interrupt as if the device had.
  func triggerInterrupt(_ line: InterruptLine) { _ = ask(.triggerInterrupt(line)) }

  func maskPin() { _ = ask(.maskPin) }

  /// The host wants to hear of INTx again, at once if it is asserted.
  func unmaskPin() { _ = ask(.unmaskPin) }

  /// INTx is not to be signalled, whatever asserts it.
  func disablePin(_ isDisabled: Bool) { _ = ask(.disablePin(isDisabled)) }

  /// Whether INTx is asserted.
  func readPin() -> Bool { ask(.readPin) != 0 }

  func removeInterrupts() { _ = ask(.removeInterrupts) }

  func reset(_ reason: ResetReason) { _ = ask(.reset(reason)) }

  /// - Returns: false while commands of a namespace that had this identifier are under way.
  func attach(_ namespace: Namespace, _ backend: NamespaceBackend) -> Bool {
    ask(.attach(namespace, backend)) != 0
  }

  func detach(_ nsid: UInt32) { _ = ask(.detach(nsid)) }

  // MARK: The engine's thread

  private func run<R: Recorder & ~Copyable>(_ recorder: consuming R) {
    var port = LivePort(
      recorder: recorder, doorbells: doorbells, vectors: Int(configuration.subsystem.vectors),
      storage: configuration.storage?.take())
    for (namespace, backend) in configuration.namespaces { port.setBackend(namespace.nsid, backend) }
    var controller = Controller(configuration.subsystem, namespaces: configuration.namespaces.map(\.0))
    let state = UnsafeMutableRawBufferPointer.allocate(byteCount: Controller.checkpointBytesMax, alignment: 16)
    defer { state.deallocate() }
    if R.isOn { checkpoint(controller, &port, state) }
    var idlePasses = 0
    var idleSince = Clock.monotonicNs()
    while true {
      if mailbox.isFull {
        guard answer(&controller, &port) else { return port.recorder.finish() }
        idlePasses = 0
      }
      let now = port.beginPass()
      if controller.poll(&port) {
        idlePasses = 0
      } else {
        rest(&controller, &port, &idlePasses, &idleSince)
      }
      port.endPass()
      if R.isOn, port.recorder.isCheckpointDue(now: now) { checkpoint(controller, &port, state) }
    }
  }

  private func checkpoint<R: Recorder & ~Copyable>(
    _ controller: borrowing Controller, _ port: inout LivePort<R>, _ state: UnsafeMutableRawBufferPointer
  ) {
    let count = controller.encode(into: state)
    port.recorder.checkpoint(UnsafeRawBufferPointer(rebasing: state[..<count]))
  }

  /// Nothing to do: spin while the host may ring at any moment, sleep while it cannot or has not for long.
  @inline(__always)
  private func rest<R: Recorder & ~Copyable>(
    _ controller: inout Controller, _ port: inout LivePort<R>, _ idlePasses: inout Int, _ idleSince: inout UInt64
  ) {
    // What was dropped by a reset is waited for like what is under way.
    guard controller.csts.ready || controller.executing > 0, !controller.csts.fatal else {
      return mailbox.wait(milliseconds: controller.timers > 0 || controller.executing > 0 ? 1 : 100)
    }
    idlePasses += 1
    if idlePasses % Shard.passesPerLook == 0 { restLonger(&controller, &port, idlePasses, &idleSince) }
  }

  @inline(never)
  private func restLonger<R: Recorder & ~Copyable>(
    _ controller: inout Controller, _ port: inout LivePort<R>, _ idlePasses: Int, _ idleSince: inout UInt64
  ) {
    let now = Clock.monotonicNs()
    if idlePasses == Shard.passesPerLook { idleSince = now }
    if controller.takeStrayDoorbells(&port) { return }
    guard now - idleSince >= UInt64(configuration.idleMs) * 1_000_000 else { return }
    // What is due soon is not slept through.
    let isWaiting = controller.executing > 0 || controller.timers > 0
    mailbox.wait(milliseconds: isWaiting ? 1 : Int(configuration.napMs))
  }

  /// - Returns: false when the thread is to end.
  @inline(never)
  private func answer<R: Recorder & ~Copyable>(_ controller: inout Controller, _ port: inout LivePort<R>) -> Bool {
    var answer: UInt64 = 0
    var goesOn = true
    switch mailbox.take() {
    case .readRegister(let offset, let width):
      answer = controller.readRegister(offset: offset, width: width, &port)
    case .writeRegister(let offset, let width, let value):
      controller.writeRegister(offset: offset, width: width, value: value, &port)
    case .map(let range):
      answer = port.memory.add(range) ? 1 : 0
      if answer == 1 { port.noteMapping(.dmaMap, address: range.address, length: range.length) }
    case .unmap(let address, let length):
      port.memory.remove(address: address, length: length)
      port.noteMapping(.dmaUnmap, address: address, length: length)
    case .setInterrupt(let line, let descriptor):
      port.interrupts.set(line, descriptor)
      if case .pin = line, descriptor >= 0 { settlePin(&controller, &port) }
    case .triggerInterrupt(let line): port.interrupts.trigger(line)
    case .maskPin: port.interrupts.maskPin()
    case .unmaskPin:
      port.interrupts.unmaskPin()
      settlePin(&controller, &port)
    case .disablePin(let isDisabled):
      port.interrupts.pinIsDisabled = isDisabled
      settlePin(&controller, &port)
    case .readPin: answer = settlePin(&controller, &port) ? 1 : 0
    case .removeInterrupts: port.interrupts.removeAll()
    case .reset(let reason): controller.reset(reason, &port)
    case .attach(let namespace, let backend):
      guard !port.isBusy(namespace.nsid) else { break }
      port.setBackend(namespace.nsid, backend)
      controller.attach(namespace, &port)
      answer = 1
    case .detach(let nsid):
      controller.detach(nsid, &port)
      port.removeBackend(nsid)
    case .stop: goesOn = false
    }
    mailbox.reply(answer)
    return goesOn
  }

  /// Signal INTx if it is asserted and has not been: what the host has taken in the meantime asserts nothing any more.
  /// - Returns: whether it is asserted.
  @discardableResult
  private func settlePin<R: Recorder & ~Copyable>(_ controller: inout Controller, _ port: inout LivePort<R>) -> Bool {
    _ = port.beginPass()
    controller.poll(&port)
    port.endPass()
    let isAsserted = controller.assertsPin
    if isAsserted { port.interrupts.raisePin() }
    return isAsserted
  }
}
