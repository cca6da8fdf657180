import Testing

@testable import Probe

@Suite struct KernelClockTests {
  /// A counter of 3 GHz that is 20 parts in a million faster than it was measured.
  private func counter(_ ns: UInt64) -> UInt64 { 1_000_000 + ns * 3 + ns * 3 / 50_000 }
  private let second: UInt64 = 1_000_000_000

  @Test("Times are where the clocks are, within what a second's drift can be")
  func follows() {
    var clock = KernelClock(.cycles, ns: 0, ticks: counter(0), ticksPerNs: 3)
    var errors: [UInt64] = []
    for ns in (1...20).map({ $0 * second }) { errors.append(clock.correct(ns: ns, ticks: counter(ns))) }
    #expect((19_000...21_000).contains(errors[0]))
    #expect(errors.suffix(10).allSatisfy { $0 < 10 })
  }

  @Test("What the kernel's clock put in order stays in order, however far a correction goes")
  func isMonotonic() {
    for jump in [-2_000_000, -3000, 0, 3000, 2_000_000] as [Int64] {
      var clock = KernelClock(.cycles, ns: 0, ticks: 0, ticksPerNs: 3)
      _ = clock.correct(ns: second, ticks: UInt64(Int64(3 * second) + jump))
      var last: UInt64 = 0
      // Some of before the correction come after it: rings are read later.
      for time in stride(from: second - 50_000, to: second + 50_000, by: 7) {
        let ticks = clock.ticks(at: time)
        #expect(ticks > last)
        last = ticks
      }
    }
  }

  @Test("A recording whose ticks are the kernel's own has no error")
  func same() {
    var clock = KernelClock.same
    #expect(clock.ticks(at: 12345) == 12345 && clock.correct() == 0)
  }

  @Test("However many CPUs there are, the rings' room is bounded", arguments: [1, 2, 8, 64, 256, 4096])
  func budget(cpus: Int) {
    let budget = KernelRecorder.Budget(cpus: cpus)
    #expect(budget.slots.nonzeroBitCount == 1 && budget.slots >= 1 << 12 && budget.slots <= 1 << 16)
    #expect(budget.bytes <= 260 << 20)
  }
}
