/// The events of all streams of a trace in the order of their times; of two at the same time the stream that comes
/// first in the file goes first. One chunk of each stream is in memory.
public struct MergedEvents: ~Copyable {
  private struct Cursor {
    let id: TraceReader.StreamID
    let next: () throws(TraceError) -> UnsafeBufferPointer<Record>?
    var slots: UnsafeBufferPointer<Record>
    var position = 0
    /// Of the event at `position`.
    var time: UInt64
  }

  private var cursors: [Cursor] = []

  public init(_ reader: TraceReader) throws(TraceError) {
    for (id, chunks) in reader.streams {
      let next = reader.source(of: chunks)
      guard let slots = try next(), slots.count > 0 else { continue }
      cursors.append(Cursor(id: id, next: next, slots: slots, time: slots[0].time))
    }
  }

  /// The next event, with its tail behind it, and its stream; nil at the end. It stays valid until the next call.
  public mutating func next() throws(TraceError) -> (record: UnsafePointer<Record>, id: TraceReader.StreamID)? {
    try settle()
    guard !cursors.isEmpty else { return nil }
    var first = 0
    for index in 1..<max(cursors.count, 1) where cursors[index].time < cursors[first].time { first = index }
    let record = cursors[first].slots.baseAddress! + cursors[first].position
    cursors[first].position += 1 + Int(record.pointee.tail)
    used = first
    return (record, cursors[first].id)
  }

  /// The stream whose event was handed out and must be stepped over before the next.
  private var used: Int?

  private mutating func settle() throws(TraceError) {
    guard let index = used else { return }
    used = nil
    while cursors[index].position >= cursors[index].slots.count {
      guard let slots = try cursors[index].next() else {
        cursors.remove(at: index)
        return
      }
      cursors[index].slots = slots
      cursors[index].position = 0
    }
    cursors[index].time = cursors[index].slots[cursors[index].position].time
  }
}
