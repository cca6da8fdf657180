import Events
import Platform
import Synchronization

/// Chunks that one thread decodes before another wants them: a few, and not too large ones, so that no trace demands much
/// memory with them.
final class DecodingAhead: Sendable {
  private static let slotCount = 4
  /// Of the chunks in all slots together, in the file or decoded, whichever is more.
  private static let bytesMax = 32 << 20
  /// Of one chunk; the reader decodes larger ones itself.
  private static let chunkBytesMax = 16 << 20

  private enum Content: Equatable {
    case nothing
    case decoding(chunk: Int)
    case decoded(chunk: Int)
  }

  private struct State {
    var order: ChunkOrder
    /// By stream: the position after the chunk that the reader took last.
    var taken: [Int]
    /// The next chunk to decode, if it waits for room.
    var next: ChunkOrder.Item?
    var contents = [Content](repeating: .nothing, count: slotCount)
    var bytes = 0
    var isEnding = false
    var readerWaits = false
    var decoderWaits = false
  }

  /// Belongs to the decoding thread while its content is being decoded, and to the reader when it has been.
  private final class Slot: @unchecked Sendable {
    var events = ByteBuffer(capacity: 0)
    var bytes = 0
    var error: TraceError?
  }

  private let reader: TraceReader
  private let slots = (0..<slotCount).map { _ in Slot() }
  private let state: Mutex<State>
  private let hasDecoded = Signal()
  private let hasRoom = Signal()

  init(_ reader: TraceReader, _ walks: [ChunkWalk]) {
    self.reader = reader
    state = Mutex(State(order: ChunkOrder(walks), taken: [Int](repeating: 0, count: walks.count)))
  }

  // MARK: The reader

  /// - Returns: false if decoding this chunk has not begun. Then the caller decodes it.
  func take(_ stream: Int, _ position: Int, _ chunk: Int, into events: inout ByteBuffer) throws(TraceError) -> Bool {
    guard let slot = wait(stream, position, chunk) else { return false }
    swap(&slots[slot].events, &events)
    let error = slots[slot].error
    free(slot)
    if let error { throw error }
    return true
  }

  /// - Returns: the slot with the decoded chunk; nil if decoding has not begun.
  private func wait(_ stream: Int, _ position: Int, _ chunk: Int) -> Int? {
    while true {
      let (slot, isDecoded) = state.withLock { state in
        state.taken[stream] = position + 1
        if let slot = state.contents.firstIndex(of: .decoded(chunk: chunk)) { return (slot, true) as (Int?, Bool) }
        state.readerWaits = state.contents.contains(.decoding(chunk: chunk))
        return (nil, !state.readerWaits)
      }
      if isDecoded { return slot }
      hasDecoded.wait()
    }
  }

  private func free(_ slot: Int) {
    let wakes = state.withLock { state in
      state.contents[slot] = .nothing
      state.bytes -= slots[slot].bytes
      defer { state.decoderWaits = false }
      return state.decoderWaits
    }
    if wakes { hasRoom.raise() }
  }

  /// Make `run` return soon.
  func end() {
    state.withLock { $0.isEnding = true }
    hasRoom.raise()
  }

  // MARK: The decoding thread

  /// Decode until all chunks have been decoded or taken.
  func run() {
    guard var decoded = try? DecodedChunk() else { return }
    while let (index, chunk) = begin() {
      let slot = slots[index]
      slot.error = nil
      do throws(TraceError) {
        try reader.decode(chunk, into: &decoded)
        decoded.exchangeEvents(&slot.events)
      } catch {
        slot.error = error
      }
      let wakes = state.withLock { state in
        state.contents[index] = .decoded(chunk: chunk)
        defer { state.readerWaits = false }
        return state.readerWaits
      }
      if wakes { hasDecoded.raise() }
    }
  }

  /// Wait for room for the next chunk.
  private func begin() -> (slot: Int, chunk: Int)? {
    while true {
      let (start, isAtEnd) = state.withLock { state in choose(&state) }
      if let start { return start }
      if isAtEnd { return nil }
      hasRoom.wait()
    }
  }

  private func choose(_ state: inout State) -> ((slot: Int, chunk: Int)?, isAtEnd: Bool) {
    while !state.isEnding {
      guard let next = state.next ?? state.order.next() else { return (nil, true) }
      state.next = nil
      let header = reader.chunks[next.chunk].header
      let bytes = max(Int(header.slots) * Record.size, Int(header.length))
      guard next.position >= state.taken[next.stream], bytes <= DecodingAhead.chunkBytesMax else { continue }
      guard let slot = state.contents.firstIndex(of: .nothing), state.bytes + bytes <= DecodingAhead.bytesMax else {
        (state.next, state.decoderWaits) = (next, true)
        return (nil, false)
      }
      state.contents[slot] = .decoding(chunk: next.chunk)
      state.bytes += bytes
      slots[slot].bytes = bytes
      return ((slot, next.chunk), false)
    }
    return (nil, true)
  }
}
