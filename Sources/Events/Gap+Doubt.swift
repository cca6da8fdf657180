extension Event.Gap {
  /// How many nanoseconds before it the first event may be missing. Where the kernel did not run a probe, only the
  /// recorder's looks around that say when.
  public var doubtNs: UInt64 {
    guard flags.contains(.notRun) else { return 0 }
    return since != 0 ? UInt64(since) : 100_000_000
  }
}
