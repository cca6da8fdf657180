import ArgumentParser
import Service
import Trace

/// The trace for a command to read.
struct TraceArgument: ParsableArguments {
  @Argument(help: ArgumentHelp("Trace to read", valueName: "file"), completion: .trace)
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

  /// End with status 2, after the output, if the trace is damaged or was not closed.
  func requireComplete(_ reader: TraceReader) throws {
    guard !reader.isComplete else { return }
    if reader.damage == nil { complain("\(path) was not closed; run nvmepf repair \(path)") }
    throw ExitCode(2)
  }
}

extension CompletionKind {
  /// The names of traces.
  static let trace = CompletionKind.file(extensions: ["nvpt"])
}
