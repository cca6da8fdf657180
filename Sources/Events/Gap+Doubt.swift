extension Event.Gap {
  /// How many nanoseconds before it the first lost event may be. For probes that the kernel did not run, only the
  /// recorder's samples before and after bound the time.
  public var doubtNs: UInt64 {
    guard flags.contains(.notRun) else { return 0 }
    return since != 0 ? UInt64(since) : 100_000_000
  }

  /// Earliest possible time of a lost event.
  public var doubtBegin: UInt64 { time - min(doubtNs, time) }

  /// Combines this gap with a `later` one that follows without an event in between.
  public func joined(_ later: Event.Gap) -> Event.Gap {
    var gap = later
    gap.events = events.addingReportingOverflow(later.events).overflow ? .max : events + later.events
    gap.flags = flags.intersection(later.flags)
    gap.since = UInt32(clamping: later.time - min(doubtBegin, later.doubtBegin, later.time))
    return gap
  }
}
