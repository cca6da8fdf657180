import Events
import Trace

/// A controller of the kernel's target that a trace tells of.
public struct KernelController: Sendable {
  public let controller: UInt16
  public let nqn: String
  /// Events that it had a part in.
  public internal(set) var events: UInt64

  /// Those of the trace, the busiest first. Reads the first chunk of each of the kernel's streams.
  public static func all(in reader: TraceReader) throws(TraceError) -> [KernelController] {
    var controllers: [UInt16: KernelController] = [:]
    var origins: [UInt16: UInt16] = [:]
    var decoded = try DecodedChunk()
    for (index, chunk) in reader.chunks.enumerated() where chunk.header.id.source == .kernel {
      let stream = chunk.header.id.stream
      if origins[stream] == nil {
        try reader.decode(index, into: &decoded)
        guard let first = decoded.slots.first, first.event == .origin, first.flags & 1 == 0 else { continue }
        origins[stream] = first.cid
        let bytes = UnsafeRawBufferPointer(decoded.slots)[Record.size...].prefix(
          min(Int(first.bLow), KernelView.nameMax))
        let nqn = first.flags & EventFlag.bytes == 0 ? "" : String(decoding: bytes, as: UTF8.self)
        if controllers[first.cid]?.nqn.isEmpty ?? true {
          controllers[first.cid] = KernelController(
            controller: first.cid, nqn: nqn, events: controllers[first.cid]?.events ?? 0)
        }
      }
      if let controller = origins[stream] { controllers[controller]!.events += UInt64(chunk.header.events) }
    }
    return controllers.values.filter { $0.controller != 0xffff }.sorted { $0.events > $1.events }
  }
}
