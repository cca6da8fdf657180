import Trace

/// Remove what killed recordings and servers of this user left in shared memory, and name those that a repair can
/// still make whole.
public func sweepLeftovers() {
  for leftover in RecordingDirectory.sweep() {
    tell("nvmepf: a killed recording left events in \(leftover.path): nvmepf repair \(leftover.trace)")
  }
}
