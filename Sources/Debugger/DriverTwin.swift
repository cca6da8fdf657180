import Endpoint
import Replay
import Trace

/// Our engine as the twin of nvmet-pci-epf: it gets the registers, entries and lists that the driver received.
final class DriverTwin {
  private var replay: DriverReplay
  private var ns: UInt64 = 0

  /// Reads the whole trace.
  init(_ reader: TraceReader, controller: UInt16) throws { replay = try DriverReplay(reader, controller: controller) }

  /// When events were lost or, otherwise, the limit of a replay was reached: it stands still from there on.
  var stop: (ns: UInt64, isLoss: Bool)? { replay.stop }
  /// Whether it has followed the driver to the time that was asked for last.
  var isFollowing: Bool { replay.isFollowing }

  /// Where it stands at a time, and what was compared until then.
  func state(at ns: UInt64) -> (state: EngineState, compared: DriverReplayResult) {
    if ns < self.ns { replay.rewind() }
    self.ns = ns
    replay.advance(upTo: ns)
    return (replay.engineState, replay.soFar)
  }
}
