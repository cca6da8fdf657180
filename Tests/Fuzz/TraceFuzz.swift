import Analysis
import Glibc
import Replay
import Trace

/// A trace of any bytes is read, replayed and analysed as far as it goes, or refused.
@_cdecl("fuzz_trace")
public func fuzzTrace(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  let path = "/dev/shm/nvmepf-fuzz-\(getpid())"
  let file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
  precondition(file >= 0 && write(file, data, count) == count, "no room for the trace")
  close(file)
  defer { unlink(path) }
  guard let reader = try? TraceReader(path: path) else { return 0 }
  for (id, chunks) in reader.streams where id.source == .engine {
    guard var replayer = try? Replayer(stream: id.stream, chunks: reader.source(of: chunks)) else { continue }
    _ = try? replayer.run()
  }
  analyse(reader)
  return 0
}

private func analyse(_ reader: TraceReader) {
  var analyzer = StageAnalyzer(grouping: nil)
  guard var events = try? MergedEvents(reader) else { return }
  while let (record, id) = try? events.next() {
    let tail = UnsafeRawBufferPointer(start: record + 1, count: Int(record.pointee.tail) * Record.size)
    analyzer.take(record.pointee, source: id.source, stream: Int(id.stream), tail: tail)
  }
  _ = analyzer.summary()
}
