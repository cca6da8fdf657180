import Chance
import Endpoint
import NVMe
import Recording
import Target

/// The engine, a host and a backend in virtual time, step by step. The seed determines everything.
struct Simulator<R: Recorder & ~Copyable>: ~Copyable {
  let world: World
  let scenario: Scenario
  var port: RecordingPort<SimulatedPort, R>
  var controller: Controller
  /// Records the host's own events.
  var host: R
  var random: SeededGenerator

  var admin = SimulatedQueue(qid: 0, submissionEntries: 32, completionEntries: 32, vector: nil)
  var queues: [SimulatedQueue] = []
  /// Asynchronous events whose log pages the host has not read yet.
  var events: [CompletionEntry] = []
  /// By queue and place: the command in flight, and the content of the place's blocks, `unknown` if undetermined.
  let commands: UnsafeMutablePointer<SimulatedCommand>
  let model: UnsafeMutablePointer<UInt64>
  /// The same before the command in flight.
  let modelBefore: UnsafeMutablePointer<UInt64>
  var nextTag: UInt64 = 1
  /// Counts how often the controller was enabled. Part of every command identifier, so that a completion from before a
  /// reset is detected.
  var life: UInt16 = 0
  var namespaceEpoch = 0
  var hasSecondNamespace = false
  var untilDisturbance: UInt64 = .max

  private(set) var completed: UInt64 = 0
  var resets: UInt64 = 0
  private var passes: UInt64 = 0
  /// Passes since the last completion; detects an engine that is always busy and completes nothing.
  var idlePasses = 0
  private static var idlePassesMax: Int { 100_000 }
  private let state = UnsafeMutableRawBufferPointer.allocate(byteCount: Controller.checkpointBytesMax, alignment: 16)
  /// Called at every checkpoint with the number of completed commands; false ends the run.
  private let goesOn: (UInt64) -> Bool
  private var isStopped = false
  /// The host submits no more commands.
  private(set) var isClosing = false

  static var places: Int { 32 }
  static var blocksMax: Int { 24 }
  static var unknown: UInt64 { .max }

  /// - Parameters:
  ///   - recorder: records the engine.
  ///   - host: records the host.
  init(
    _ scenario: Scenario, seed: UInt64, world: World, recorder: consuming R, host: consuming R,
    goesOn: @escaping (UInt64) -> Bool
  ) {
    self.init(atRest: scenario, seed, world, recorder, host, goesOn)
    scheduleDisturbance()
    checkpoint()
  }

  private init(
    atRest scenario: Scenario, _ seed: UInt64, _ world: World, _ recorder: consuming R, _ host: consuming R,
    _ goesOn: @escaping (UInt64) -> Bool
  ) {
    self.host = host
    self.scenario = scenario
    self.world = world
    self.goesOn = goesOn
    random = SeededGenerator(seed: SeededGenerator.mix(seed &+ 1))
    port = RecordingPort(SimulatedPort(world, scenario, seed: SeededGenerator.mix(seed &+ 2)), recorder)
    controller = Controller(
      scenario.subsystem,
      namespaces: [Namespace(nsid: 1, blocks: SimulatedPort.blocks, blockShift: SimulatedPort.blockShift)])
    let all = World.queuesMax * Simulator.places
    commands = .allocate(capacity: all)
    commands.initialize(repeating: SimulatedCommand(), count: all)
    model = .allocate(capacity: all * Simulator.blocksMax)
    model.initialize(repeating: 0, count: all * Simulator.blocksMax)
    modelBefore = .allocate(capacity: all * Simulator.blocksMax)
    modelBefore.initialize(repeating: 0, count: all * Simulator.blocksMax)
  }

  deinit {
    commands.deallocate()
    model.deallocate()
    modelBefore.deallocate()
    state.deallocate()
  }

  mutating func scheduleDisturbance() {
    guard let every = scenario.faults?.disturbance, every > 0 else { return }
    untilDisturbance = 1 + random.next() % (2 * every)
  }

  /// Let the host submit until `count` commands are complete or a rule is violated.
  mutating func run(commands count: UInt64) {
    start()
    while completed < count, world.isIntact, !isStopped {
      let acted = act()
      if !pass(), !acted, !wait() { atRest() }
    }
    if R.isOn { checkpoint() }
  }

  /// Submit no more commands, and complete those in flight.
  mutating func complete() {
    isClosing = true
    while queues.contains(where: { $0.outstanding > 0 }), world.isIntact {
      let acted = act()
      if !pass(), !acted, !wait() { return world.fail("commands never complete") }
    }
  }

  /// One pass of the engine.
  /// - Returns: whether it had anything to do.
  @discardableResult
  mutating func pass() -> Bool {
    // An engine with inconsistent state may stop the process before the violation is reported.
    guard world.isIntact else { return false }
    idlePasses += 1
    if idlePasses > Simulator.idlePassesMax { world.fail("no command completes in \(idlePasses) passes") }
    let now = port.beginPass()
    let worked = controller.poll(&port)
    passes += 1
    if worked { checkInvariants(ofCommands: passes % 64 == 0 || passes < 4096) }
    if R.isOn {
      if port.recorder.isCheckpointDue(now: now) {
        checkpoint()
      } else if port.recorder.isStateHashDue() {
        let begin = port.recorder.time.ticks()
        port.recorder.note(controller.stateHash(), since: begin)
      }
    }
    return worked
  }

  /// - Parameter isWhole: check also those that look at every command; they cost as much as a few commands.
  func checkInvariants(ofCommands isWhole: Bool = true) {
    guard let broken = isWhole ? controller.brokenInvariant() : controller.brokenBounds() else { return }
    world.fail("the engine's state is inconsistent: \(broken)")
  }

  mutating func checkpoint() {
    guard R.isOn else { return }
    let begin = port.recorder.time.ticks()
    let count = controller.encode(into: state)
    port.recorder.checkpoint(UnsafeRawBufferPointer(rebasing: state[..<count]), since: begin)
    if !goesOn(completed) { isStopped = true }
  }

  /// Advance time to the next event of the engine or its backend, while the host does nothing.
  /// - Returns: false if there is none.
  mutating func waitForEngine() -> Bool {
    guard let next = port.inner.nextNs else { return false }
    world.time.advance(to: next)
    return true
  }

  /// Advance time to the next event of the engine, its backend or the host.
  /// - Returns: false if there is none.
  mutating func wait() -> Bool {
    var next = port.inner.nextNs ?? .max
    for queue in queues { next = min(next, nextNs(queue)) }
    guard next != .max else { return false }
    world.time.advance(to: next)
    return true
  }

  mutating func finish() { port.recorder.finish() }

  mutating func noteCompleted() {
    completed += 1
    idlePasses = 0
  }
}
