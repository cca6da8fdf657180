import ArgumentParser
import Service
import Trace

/// The trace for a command to read.
struct TraceArgument: ParsableArguments {
  @Argument(help: ArgumentHelp("Trace to read", valueName: "file"))
  var path = Nvmepf.defaultTrace

  func open() throws -> TraceReader { try TraceReader(path: path) }

  /// Open the trace, and report missing parts.
  func openTolerantly() throws -> TraceReader {
    let reader = try open()
    if let damage = reader.damage { complain(damage.description) }
    guard !reader.chunks.isEmpty else {
      throw Failure(description: "\(path) holds no events")
    }
    return reader
  }
}
