import Events

/// Cost of probes during the recording, counted by the kernel.
public struct ProbeCosts: Sendable {
  public private(set) var runs: UInt64 = 0
  /// Total, in nanoseconds.
  public private(set) var ns: UInt64 = 0
  /// The probe with the largest total cost.
  public private(set) var dearest = ""
  public private(set) var dearestNs: UInt64 = 0

  private static let nameMax = 128

  public init() {}

  /// With those of one more probe.
  /// - Parameter tail: the bytes after the event.
  public func adding(_ probe: Event.Probe, _ tail: UnsafeRawBufferPointer) -> ProbeCosts {
    var costs = self
    let cost = probe.runs.multipliedReportingOverflow(by: UInt64(probe.mean))
    let ns = cost.overflow ? .max : cost.partialValue
    costs.runs = runs.addingReportingOverflow(probe.runs).overflow ? .max : runs + probe.runs
    costs.ns = self.ns.addingReportingOverflow(ns).overflow ? .max : self.ns + ns
    if ns > dearestNs {
      let name = tail.prefix(min(Int(probe.length), ProbeCosts.nameMax))
      (costs.dearest, costs.dearestNs) = (String(decoding: name, as: UTF8.self), ns)
    }
    return costs
  }
}
