import Glibc

/// A flight recorder keeps the newest chunks. While it records, the file grows and the disk space of the oldest chunks
/// is released; closing the file compacts it.
extension TraceWriter {
  /// Discard the oldest chunks until the rest fits in `keepBytes`; always keep the newest.
  func dropOldest(keeping keepBytes: UInt64) throws(TraceError) {
    let first = chunks[firstKept]
    keptBytes += chunks.last!.header.length
    if keptBytes <= keepBytes { return }
    while keptBytes > keepBytes && firstKept < chunks.count - 1 {
      keptBytes -= chunks[firstKept].header.length
      firstKept += 1
    }
    // The block in which the last hole ended may now be empty too.
    let from = max(headerLength, first.offset - min(first.offset, 1 << 16))
    try file.punch(from, chunks[firstKept].offset)
    if firstKept > 4096 {
      chunks.removeFirst(firstKept)
      firstKept = 0
    }
  }

  /// Move the chunks that a replay can use to the front of a new file with the same name. If the disk has no room for
  /// both, the holes stay and the index skips them.
  func compact() throws(TraceError) {
    keepReplayable()
    do throws(TraceError) {
      var compacted = try TraceFile(beside: file.path, like: file.descriptor)
      let moved = try copy(chunks, into: &compacted)
      try compacted.publish(keepsPrevious: false)
      chunks = moved
      file = compacted
    } catch {
      // The holes stay.
    }
  }

  /// An engine's events before its first checkpoint cannot be replayed.
  private func keepReplayable() {
    var begun: Set<StreamID> = []
    var kept: [ChunkPlace] = []
    for chunk in chunks[firstKept...] {
      if chunk.header.id.source == .engine && !chunk.header.beginsWithCheckpoint && chunk.header.sequence > 0
        && !begun.contains(chunk.header.id)
      {
        continue
      }
      begun.insert(chunk.header.id)
      kept.append(chunk)
    }
    (chunks, firstKept) = (kept, 0)
  }

  private func copy(_ chunks: [ChunkPlace], into target: inout TraceFile) throws(TraceError) -> [ChunkPlace] {
    try target.append(try header.encoded())
    var buffer = ByteBuffer()
    var moved: [ChunkPlace] = []
    for chunk in chunks {
      buffer.resize(to: Int(chunk.header.length))
      guard try readFully(file.descriptor, buffer.base, buffer.count, at: chunk.offset, path: file.path) else {
        throw TraceError(.damaged, "\(file.path) became shorter during the recording")
      }
      moved.append(ChunkPlace(offset: target.end, header: chunk.header))
      try target.append(buffer)
    }
    return moved
  }
}
