import EventSequences
import KernelTimeline
import Trace

/// What the kernel had in hand after any number of events. The trace has no checkpoints: the first question about a
/// point reads all events before it, and keeps states on the way, from which later questions start.
final class KernelAtEvent {
  private let events: NumberedStreams
  /// States after so many events, ascending; the first is before any event.
  private var kept: [(event: UInt64, state: KernelState)]
  /// The last one asked for.
  private var latest: (event: UInt64, state: KernelState)
  /// Between two that are kept.
  private var interval: UInt64
  /// The next one is kept when so many events have happened.
  private var nextKept: UInt64

  /// Of the states that are kept, and of the commands in flight in all of them.
  private static let keptMax = 4096
  private static let commandsMax = 1 << 19

  /// - Parameter interval: the least number of events between two states that are kept.
  init(_ events: NumberedStreams, _ subject: KernelSubject, interval: UInt64 = 1 << 16) {
    (self.events, self.interval) = (events, interval)
    latest = (0, KernelState(subject))
    kept = [latest]
    nextKept = interval
  }

  /// The state when the first `event` events have happened.
  func state(at event: UInt64) throws -> KernelState {
    if latest.event == event { return latest.state }
    let nearest = kept.last { $0.event <= event } ?? kept[0]
    if latest.event > event || latest.event < nearest.event { latest = nearest }
    guard latest.event < event else { return latest.state }
    var (next, state) = latest
    // No other reference: a state is not copied for each event.
    latest = kept[0]
    do {
      try events.visit(from: next) { [self] in
        state.ingest($0)
        next = $0.number + 1
        if next >= nextKept { keep(state, next) }
        return next >= event
      }
    } catch {
      latest = kept[0]
      throw error
    }
    latest = (next, state)
    return state
  }

  private func keep(_ state: KernelState, _ event: UInt64) {
    defer { nextKept = kept[kept.count - 1].event + interval }
    var light = state
    light.forgetPast()
    kept.append((event, light))
    let commands = kept.reduce(0) { $0 + $1.state.commands.count }
    guard kept.count > KernelAtEvent.keptMax || (commands > KernelAtEvent.commandsMax && kept.count > 2) else { return }
    kept = kept.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
    interval *= 2
  }
}
