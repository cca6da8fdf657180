import Chance
import Endpoint
import NVMe
import Recording
import Target

/// The engine, a host and a backend in virtual time, step by step. The seed fixes all of it.
struct Simulator<R: Recorder & ~Copyable>: ~Copyable {
  let world: World
  let scenario: Scenario
  var port: RecordingPort<SimulatedPort, R>
  var controller: Controller
  var random: SeededGenerator

  var admin = SimulatedQueue(qid: 0, submissionEntries: 32, completionEntries: 32, vector: nil)
  var queues: [SimulatedQueue] = []
  /// Events that have come and whose log pages have not been read.
  var events: [CompletionEntry] = []
  /// By queue and place: what is under way, and what the blocks of each place hold; `unknown` for what cannot be said.
  let commands: UnsafeMutablePointer<SimulatedCommand>
  let model: UnsafeMutablePointer<UInt64>
  /// The same, before the command that is under way there.
  let modelBefore: UnsafeMutablePointer<UInt64>
  var nextTag: UInt64 = 1
  /// Lives of the controller: part of every command identifier, so that a completion from a life before is noticed.
  var life: UInt16 = 0
  var namespaceEpoch = 0
  var hasSecondNamespace = false
  var untilDisturbance: UInt64 = .max

  private(set) var completed: UInt64 = 0
  var resets: UInt64 = 0
  private var passes: UInt64 = 0
  /// Passes since the last completion: an engine that has something to do for ever never finishes anything.
  var idlePasses = 0
  private static var idlePassesMax: Int { 100_000 }
  private let state = UnsafeMutableRawBufferPointer.allocate(byteCount: Controller.checkpointBytesMax, alignment: 16)
  /// Asked at every checkpoint, with the commands completed: whether the run goes on.
  private let goesOn: (UInt64) -> Bool
  private var isStopped = false

  static var places: Int { 32 }
  static var blocksMax: Int { 24 }
  static var unknown: UInt64 { .max }

  init(_ scenario: Scenario, seed: UInt64, world: World, recorder: consuming R, goesOn: @escaping (UInt64) -> Bool) {
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
    scheduleDisturbance()
    checkpoint()
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

  /// Let the host submit until so many commands are complete, or something happens that must not.
  mutating func run(commands count: UInt64) {
    start()
    while completed < count, world.isIntact, !isStopped {
      let acted = act()
      if !pass(), !acted, !wait() { atRest() }
    }
    if R.isOn { checkpoint() }
  }

  /// One pass of the engine.
  /// - Returns: whether it had anything to do.
  @discardableResult
  mutating func pass() -> Bool {
    // An engine whose state is wrong may stop the process before anyone hears why.
    guard world.isIntact else { return false }
    idlePasses += 1
    if idlePasses > Simulator.idlePassesMax { world.fail("nothing completes in \(idlePasses) passes") }
    let now = port.beginPass()
    let worked = controller.poll(&port)
    passes += 1
    if worked, passes % 64 == 0 || passes < 4096 { checkInvariants() }
    if R.isOn, port.recorder.isCheckpointDue(now: now) { checkpoint() }
    return worked
  }

  func checkInvariants() {
    if let broken = controller.brokenInvariant() { world.fail("the engine's state is wrong: \(broken)") }
  }

  mutating func checkpoint() {
    guard R.isOn else { return }
    let count = controller.encode(into: state)
    port.recorder.checkpoint(UnsafeRawBufferPointer(rebasing: state[..<count]))
    if !goesOn(completed) { isStopped = true }
  }

  /// Let time pass until something happens, while the host does nothing.
  /// - Returns: false where nothing ever will.
  mutating func waitForEngine() -> Bool {
    guard let next = port.inner.nextNs else { return false }
    world.time.advance(to: next)
    return true
  }

  /// Let time pass until something happens, or the host does something.
  /// - Returns: false where nothing ever will.
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
