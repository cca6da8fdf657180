import NVMe

extension Target {
  /// Put back what a checkpoint holds.
  public mutating func restore(features: Features, events: AsynchronousEvents, errors: ErrorLog) {
    precondition(features.vectorConfiguration.count == Int(subsystem.vectors))
    self.features = features
    self.events = events
    self.errors = errors
  }
}
