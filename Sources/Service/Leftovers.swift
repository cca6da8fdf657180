import Trace

/// Remove the remains of this user's killed recordings and servers from shared memory, and name those that a repair can
/// still complete.
public func sweepLeftovers() {
  for leftover in RecordingDirectory.sweep() {
    tell("nvmepf: a killed recording left events in \(leftover.path): nvmepf repair \(leftover.trace)")
  }
}
