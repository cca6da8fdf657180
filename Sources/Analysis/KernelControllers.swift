import Events
import KernelStreams
import Trace

/// A controller of the kernel's target in a trace.
public struct KernelController: Sendable {
  /// Controller identifier.
  public let controller: UInt16
  /// NQN of its subsystem.
  public let nqn: String
  /// Number of its events.
  public internal(set) var events: UInt64

  /// The controllers of a trace, busiest first. Reads the first chunk of each kernel stream.
  public static func all(in reader: TraceReader) throws(TraceError) -> [KernelController] {
    var controllers: [UInt16: KernelController] = [:]
    var streams = KernelStreams()
    var decoded = try DecodedChunk()
    for (index, chunk) in reader.chunks.enumerated() where chunk.header.id.source == .kernel {
      let stream = chunk.header.id.stream
      if streams.owners[stream] == nil {
        try reader.decode(index, into: &decoded)
        guard let first = decoded.slots.baseAddress,
          case .owner(let owner)? = streams.ingest(first.pointee, tail: first.tail, stream: stream)
        else { continue }
        if owner.role == .target, controllers[owner.number]?.nqn.isEmpty ?? true {
          controllers[owner.number] = KernelController(
            controller: owner.number, nqn: owner.nqn, events: controllers[owner.number]?.events ?? 0)
        }
      }
      if let owner = streams.owners[stream], owner.role == .target {
        controllers[owner.number]?.events += UInt64(chunk.header.events)
      }
    }
    return controllers.values.filter { $0.controller != StreamOwner.noController }.sorted { $0.events > $1.events }
  }
}
