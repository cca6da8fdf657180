extension Event.Gap {
  /// How many nanoseconds before it the first event may be missing. Where the kernel did not run a probe, only the
  /// recorder's looks around that say when.
  public var doubtNs: UInt64 {
    guard flags.contains(.notRun) else { return 0 }
    return since != 0 ? UInt64(since) : 100_000_000
  }

  /// The time of the first event that may be missing.
  public var doubtBegin: UInt64 { time - min(doubtNs, time) }

  /// One gap for this one and a `later` one that no event stands between.
  public func joined(_ later: Event.Gap) -> Event.Gap {
    var gap = later
    gap.events = events.addingReportingOverflow(later.events).overflow ? .max : events + later.events
    gap.flags = flags.intersection(later.flags)
    gap.since = UInt32(clamping: later.time - min(doubtBegin, later.doubtBegin, later.time))
    return gap
  }
}
