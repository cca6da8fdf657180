import Chance
import Foundation

/// The numbers of a test that draws them: from a new seed at each run, from `NVMEPF_SEED` where that is set.
///
/// - Parameter what: who draws; it is printed with the seed.
public func drawnNumbers(_ what: String) -> SeededGenerator {
  let seed = ProcessInfo.processInfo.environment["NVMEPF_SEED"].flatMap { UInt64($0) } ?? .random(in: 0 ... .max)
  print("\(what): NVMEPF_SEED=\(seed) draws the same numbers")
  return SeededGenerator(seed: seed)
}
