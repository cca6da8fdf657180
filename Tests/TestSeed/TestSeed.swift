import Chance
import Foundation

/// Random numbers of a test: from a new seed at each run, or from `NVMEPF_SEED` if set.
///
/// - Parameter what: names the test; printed with the seed.
public func drawnNumbers(_ what: String) -> SeededGenerator {
  let seed = ProcessInfo.processInfo.environment["NVMEPF_SEED"].flatMap { UInt64($0) } ?? .random(in: 0 ... .max)
  print("\(what): NVMEPF_SEED=\(seed) repeats its random numbers")
  return SeededGenerator(seed: seed)
}
