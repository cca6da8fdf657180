extension Record {
  /// Of a gap: how many nanoseconds before it the first event may be missing. Where the kernel did not run a probe, only
  /// the recorder's looks around that say when.
  public var gapDoubtNs: UInt64 {
    guard flags & EventFlag.notRun != 0 else { return 0 }
    return b != 0 ? b : 100_000_000
  }
}
