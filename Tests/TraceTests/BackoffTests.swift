import Platform
import Testing

@testable import Trace

@Suite("A thread that waits")
struct BackoffTests {
  private static let begin: UInt64 = 1_000_000_000

  /// What it does so many nanoseconds after its first look.
  private func step(_ backoff: Backoff, after ns: UInt64) -> Backoff.Step {
    var backoff = backoff
    _ = backoff.step(now: Self.begin)
    return backoff.step(now: Self.begin + ns)
  }

  @Test("spins, then yields, then sleeps", arguments: [Backoff.polling, .writing])
  func ladder(backoff: Backoff) {
    var first = backoff
    #expect(first.step(now: Self.begin) == .spin)
    #expect(step(backoff, after: 19_999) == .spin)
    #expect(step(backoff, after: 20_000) == .yield)
    #expect(step(backoff, after: 200_000_000) == .sleep(ns: 10_000_000))
  }

  @Test("sleeps right after a brief spin if an interrupt wakes it")
  func interrupted() {
    #expect(step(.interrupted, after: 3_999) == .spin)
    #expect(step(.interrupted, after: 4_000) == .sleep(ns: 50_000))
  }

  @Test("sleeps a sixteenth of what it has waited, so that an answer is seen at most that late")
  func proportion() {
    #expect(step(.polling, after: 99_999_999) == .yield)
    #expect(step(.polling, after: 112_000_000) == .sleep(ns: 7_000_000))
    #expect(step(.writing, after: 1_600_000) == .sleep(ns: 100_000))
  }

  @Test("restarts with every answer")
  func restart() {
    var backoff = Backoff.interrupted
    _ = backoff.step(now: Self.begin)
    _ = backoff.step(now: Self.begin + 1_000_000)
    backoff.restart()
    #expect(backoff.step(now: Self.begin + 2_000_000) == .spin)
  }
}
