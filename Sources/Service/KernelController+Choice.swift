import Analysis
import Trace

extension KernelController {
  /// The controller of the kernel's target that is asked for, else the busiest.
  /// - Returns: nil and nothing where the trace has none and none is asked for.
  public static func choose(_ wanted: UInt16?, in reader: TraceReader) throws -> (
    chosen: KernelController?, others: [KernelController]
  ) {
    let all = try KernelController.all(in: reader)
    let chosen = wanted.map { wanted in all.first { $0.controller == wanted } } ?? all.first
    if let wanted, chosen == nil {
      let known = all.map { "\($0.controller)" }.joined(separator: ", ")
      throw Failure(
        description: "\(reader.path) has no controller \(wanted) of the kernel's target"
          + (known.isEmpty ? "" : ", only \(known)"))
    }
    return (chosen, all.filter { $0.controller != chosen?.controller })
  }
}
