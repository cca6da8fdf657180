import Chance
import Testing

@testable import Backends

@Suite("Service times of a null backend")
struct ServiceTimeTests {
  private static let count = 200_000

  private func draw(_ time: ServiceTime, _ count: Int = ServiceTimeTests.count) throws -> [UInt64] {
    let state = UnsafeMutablePointer<SeededGenerator>.allocate(capacity: 1)
    state.initialize(to: SeededGenerator(seed: 0))
    defer { state.deallocate() }
    let timer = try #require(ServiceTimer(time, random: state))
    return (0..<count).map { _ in timer.next() }
  }

  private func mean(_ times: [UInt64]) -> Double { Double(times.reduce(0, +)) / Double(times.count) }

  @Test("equal seeds give equal times, different seeds different ones")
  func repeats() throws {
    for time in [
      { ServiceTime.exponential(meanNs: 10_000, seed: $0) }, { ServiceTime.uniform(ns: 1000...90_000, seed: $0) },
    ] as [(UInt64) -> ServiceTime] {
      let first = try draw(time(1), 1000)
      #expect(try draw(time(1), 1000) == first)
      #expect(try draw(time(2), 1000) != first)
    }
  }

  @Test("a constant time is constant, and no time needs no timer")
  func isConstant() throws {
    #expect(try draw(.constant(ns: 1234), 100).allSatisfy { $0 == 1234 })
    let state = UnsafeMutablePointer<SeededGenerator>.allocate(capacity: 1)
    defer { state.deallocate() }
    let timer = ServiceTimer(.none, random: state)
    #expect(timer == nil)
  }

  @Test("exponential times have the right mean and tail", arguments: [1, 77])
  func isExponential(seed: UInt64) throws {
    let times = try draw(.exponential(meanNs: 50_000, seed: seed))
    #expect(abs(mean(times) / 50_000 - 1) < 0.02)
    // exp(-1) of them, and exp(-3).
    for (limit, share) in [(50_000, 0.3679), (150_000, 0.0498)] as [(UInt64, Double)] {
      let beyond = Double(times.count { $0 > limit }) / Double(times.count)
      #expect(abs(beyond / share - 1) < 0.05)
    }
  }

  @Test("uniform times fill their range, including its ends", arguments: [1, 77])
  func isUniform(seed: UInt64) throws {
    let times = try draw(.uniform(ns: 20_000...80_000, seed: seed))
    #expect(times.allSatisfy { (20_000...80_000).contains($0) })
    #expect(abs(mean(times) / 50_000 - 1) < 0.01)
    #expect(abs(Double(times.count { $0 < 35_000 }) / Double(times.count) / 0.25 - 1) < 0.05)
    let narrow = try draw(.uniform(ns: 5...7, seed: seed), 1000)
    #expect(Set(narrow) == [5, 6, 7])
  }
}
