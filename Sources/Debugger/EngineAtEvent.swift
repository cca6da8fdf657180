import Endpoint
import EventSequences
import Replay
import Trace

/// The engine's state after any number of events, by replaying from the nearest checkpoint before it.
final class EngineAtEvent {
  private let events: NumberedEvents
  /// States that the last replay passed near its end, in the order of their events.
  private var states: [(event: UInt64, state: EngineState)] = []
  /// Up to where `states` is complete.
  private var statesEnd: UInt64 = 0
  /// Where the replay diverged.
  private(set) var divergence: Divergence?

  /// Between two observations of the engine lie the events of one command at most.
  private static let reach: UInt64 = 4096
  /// Events after the wanted one that are examined too, since one often moves on by single events.
  private static let lookahead: UInt64 = 256

  init(_ events: NumberedEvents) { self.events = events }

  /// The state when the engine has acted on the first `event` events. If the replay diverges before, that at the
  /// divergence.
  /// - Returns: nil if no checkpoint precedes it.
  func state(at event: UInt64) throws -> EngineState? {
    if let first = states.first, first.event <= event, event <= statesEnd { return known(at: event) }
    guard let anchor = anchor(before: event) else { return nil }
    states = []
    // Rarely more events than `reach` lie between two observations.
    for reach in [EngineAtEvent.reach, .max] where states.isEmpty {
      var replayer = try replayer(from: anchor)
      let collector = StateCollector(target: event, reach: reach)
      replayer.observer = collector
      repeat {
        collector.observe(replayer.controller, event: replayer.event)
      } while try replayer.event <= event + EngineAtEvent.lookahead && replayer.step()
      divergence = replayer.divergence()
      // Without a divergence it ends early only where events were lost.
      guard divergence != nil || replayer.event >= event else { return nil }
      if divergence != nil, replayer.event < event { collector.keep(replayer.controller, event: replayer.event) }
      (states, statesEnd) = (collector.states, max(event, min(replayer.event, event + EngineAtEvent.lookahead)))
    }
    return known(at: event)
  }

  private func known(at event: UInt64) -> EngineState? { states.last { $0.event <= event }?.state }

  /// A replay that starts at a chunk with a checkpoint, and ends where events were lost.
  func replayer(from anchor: Int) throws(TraceError) -> Replayer {
    try Replayer(
      stream: events.id.stream, isClosed: false, first: events.header(anchor).firstEvent,
      chunks: events.slots(from: anchor))
  }

  /// The last chunk that begins with a checkpoint before this event.
  func anchor(before event: UInt64) -> Int? {
    guard event > events.first else { return nil }
    return (0...events.chunk(of: event - 1)).last { events.header($0).beginsWithCheckpoint }
  }

  /// Keeps the states on the last events before its target.
  private final class StateCollector: ReplayObserver {
    private let target: UInt64
    private let first: UInt64
    private(set) var states: [(event: UInt64, state: EngineState)] = []

    init(target: UInt64, reach: UInt64) { (self.target, first) = (target, target - min(reach, target)) }

    func observe(_ controller: borrowing Controller, event: UInt64) {
      guard event >= first, event <= target + EngineAtEvent.lookahead else { return }
      keep(controller, event: event)
    }

    func keep(_ controller: borrowing Controller, event: UInt64) {
      // Many commands in flight make a state large; then fewer are kept.
      let kept = min(EngineAtEvent.reach, 200_000 / UInt64(max(controller.commandsInFlight, 0) + 50))
      if let last = states.last {
        // They must stay without holes.
        if event <= target, last.event + kept < target {
          states.removeAll()
        } else if last.event == event {
          states.removeLast()
        }
      }
      states.append((event, controller.state))
    }
  }
}
