@_spi(Places) import Events
import Glibc
import Trace

/// Records numbered events of two streams until it is killed: `trace-crash PATH ID`.

extension RecordingDirectory {
  func makeRing(_ source: Source, capacity: UInt64) throws(TraceError) -> Ring {
    let stream: UInt16 = source == .engine ? 0 : 1
    return try Ring(
      creating: "\(path)/\(source).ring", capacity: capacity, source: source, stream: stream, traceID: id)
  }
}

func record(_ path: String, _ id: TraceID) throws(TraceError) {
  let directory = try RecordingDirectory(creating: id, tracePath: path, ringBytes: 1 << 20)
  let writer = try TraceWriter(path: path, id: id, scale: .identity, directory: directory)
  var engine = RingProducer(try directory.makeRing(.engine, capacity: 1 << 12), whenFull: .wait)
  var host = RingProducer(try directory.makeRing(.host, capacity: 1 << 12), whenFull: .wait)
  let recorder = try RecorderThread(writer)
  var number: UInt64 = 0
  withExtendedLifetime(recorder) {
    while true {
      if number % 200 == 0 {
        withUnsafeBytes(of: number) {
          engine.append(Record(time: number, kind: .checkpoint, flags: Record.carriesBytesFlag, b: 8), $0)
        }
      }
      engine.append(Record(time: number, kind: .registerWrite, a: number))
      if number % 3 == 0 { host.append(Record(time: number, kind: .registerWrite, a: number / 3)) }
      number += 1
    }
  }
}

let arguments = CommandLine.arguments
guard arguments.count == 3, let id = TraceID(arguments[2]) else {
  print("usage: trace-crash PATH ID")
  exit(2)
}
do {
  try record(arguments[1], id)
} catch {
  print(error)
  exit(1)
}
