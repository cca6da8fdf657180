/// A stream's way through those of its chunks that a selection may need.
struct ChunkWalk {
  let reader: TraceReader
  /// Indices in the trace.
  let chunks: [Int]
  private let selection: ChunkSelection
  /// The current chunk, as a position in `chunks`; their number at the end.
  private(set) var position = -1

  init(_ reader: TraceReader, _ chunks: [Int], _ selection: ChunkSelection) {
    (self.reader, self.chunks, self.selection) = (reader, chunks, selection)
    advance()
  }

  var isAtEnd: Bool { position >= chunks.count }

  /// - Precondition: it is not at its end.
  var header: ChunkHeader { reader.chunks[chunks[position]].header }

  mutating func advance() {
    repeat { position += 1 } while !isAtEnd && !selection.mayContain(header)
  }
}
