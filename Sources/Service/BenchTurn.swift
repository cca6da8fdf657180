import Device

/// An endpoint on core 0 and a host in its own process on core 1, for one turn.
public struct BenchTurn {
  private let backend: String
  private let depth: Int
  private let seconds: Double
  private let output: ServedEndpoint.Output

  /// Larger than any cache, and quick to fill.
  private static let memoryBytes: UInt64 = 256 << 20

  public init(_ backend: String, _ depth: Int, _ seconds: Double, _ output: ServedEndpoint.Output) {
    (self.backend, self.depth, self.seconds, self.output) = (backend, depth, seconds, output)
  }

  /// - Returns: nanoseconds per command.
  public func run() throws -> Double {
    var configuration = EndpointConfiguration(
      backend: backend == "memory" ? .memory(bytes: BenchTurn.memoryBytes) : .null(bytes: 1 << 30, serviceTime: .none),
      ioQueuesMax: 1)
    configuration.core = 0
    let endpoint = try ServedEndpoint(configuration, output: output, command: ["bench"])
    try endpoint.start()
    let options = ["--iodepth", "\(depth)", "--seconds", "\(seconds)"] + (backend == "memory" ? ["--fill"] : [])
    let output = OtherProgram.output(
      "/proc/self/exe", ["bench-host"] + options, variables: endpoint.environment, isQuiet: false)
    try endpoint.finish()
    guard let ns = output.flatMap({ Double($0) }) else {
      throw Failure(description: "the benchmark's host failed", status: 1)
    }
    return ns
  }
}
