import Backends
import Device

/// Why a text is invalid, in a few words.
public struct QuantityError: Error, CustomStringConvertible {
  public let description: String
}

/// A number of bytes: `4096`, `4k`, `512KiB`, `1GiB`. Every suffix is a power of two, as in fio.
/// - Returns: nil for anything else, and beyond 64 bits.
public func parseBytes(_ text: some StringProtocol) -> UInt64? {
  var factors: [String: UInt64] = ["": 1, "b": 1]
  for (index, letter) in "kmgt".enumerated() {
    for suffix in ["", "b", "ib"] { factors["\(letter)\(suffix)"] = 1 << (10 * UInt64(index + 1)) }
  }
  return parse(text.lowercased(), factors, most: .max)
}

/// A duration: `500ns`, `20us`, `2ms`, `1s`.
/// - Returns: nanoseconds, at most an hour; nil for anything else.
public func parseNs(_ text: some StringProtocol) -> UInt64? {
  parse(text, ["ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000], most: 3_600_000_000_000)
}

private func parse(_ text: some StringProtocol, _ factors: [String: UInt64], most: UInt64) -> UInt64? {
  let digits = text.prefix { ("0"..."9").contains($0) }
  guard let number = UInt64(digits), let factor = factors[String(text.dropFirst(digits.count))] else { return nil }
  let (product, overflow) = number.multipliedReportingOverflow(by: factor)
  return overflow || product > most ? nil : product
}

/// A namespace's backend: `null`, `null:1GiB`, `null:1GiB,exponential:20us`, `memory:1GiB`, or the path of a file or
/// device.
/// - Parameter bytesDefault: size of null and memory without one; nil if they must have one.
public func parseBackend(_ text: String, bytesDefault: UInt64? = nil) throws(QuantityError) -> BackendConfiguration {
  if text.contains("/") { return .file(path: text, buffered: false) }
  let parts = text.split(separator: ",", maxSplits: 1, omittingEmptySubsequences: false)
  let (kind, size) = halves(parts[0])
  guard kind == "null" || kind == "memory" else {
    throw QuantityError(
      description: "\(text) is invalid; use null, memory, or a path (./\(text) for a file of that name)")
  }
  guard let bytes = size.isEmpty ? bytesDefault : parseBytes(size), bytes >= 4096, bytes <= 1 << 46 else {
    throw QuantityError(description: "\(text): needs a size from 4KiB to 64TiB, as in \(kind):1GiB")
  }
  guard parts.count == 2 else {
    return kind == "null" ? .null(bytes: bytes, serviceTime: .none) : .memory(bytes: bytes)
  }
  guard kind == "null" else { throw QuantityError(description: "\(text): only null has a service time") }
  return .null(bytes: bytes, serviceTime: try parseServiceTime(parts[1]))
}

/// `constant:10us`, `exponential:20us`, `uniform:5us-50us`; the random ones with a seed after a further colon.
func parseServiceTime(_ text: some StringProtocol) throws(QuantityError) -> ServiceTime {
  let parts = text.split(separator: ":", omittingEmptySubsequences: false)
  let seed = parts.count == 3 ? UInt64(parts[2]) : 1
  if (2...3).contains(parts.count), let seed {
    switch parts[0] {
    case "constant": if parts.count == 2, let ns = parseNs(parts[1]) { return .constant(ns: ns) }
    case "exponential": if let ns = parseNs(parts[1]) { return .exponential(meanNs: ns, seed: seed) }
    case "uniform":
      let (low, high) = halves(parts[1], at: "-")
      if let low = parseNs(low), let high = parseNs(high), low <= high { return .uniform(ns: low...high, seed: seed) }
    default: break
    }
  }
  throw QuantityError(
    description:
      "\(text) is not a service time; use constant:10us, exponential:20us or uniform:5us-50us, optionally with :SEED")
}

/// Time to spend in a stage: `execute=2us`, `data-in=1ms,every=50,queue=1,sleep`.
public func parseInjection(_ text: String) throws(QuantityError) -> Injection {
  let parts = text.split(separator: ",", omittingEmptySubsequences: false)
  let (name, duration) = halves(parts[0], at: "=")
  guard let stage = Injection.Stage.allCases.first(where: { $0.name == name }) else {
    let names = Injection.Stage.allCases.map(\.name).joined(separator: ", ")
    throw QuantityError(description: "\(text): \"\(name)\" is not a stage of the engine; use \(names)")
  }
  guard let ns = parseNs(duration), (1...1_000_000_000).contains(ns) else {
    throw QuantityError(description: "\(text): needs a time from 1ns to 1s, as in \(name)=2us")
  }
  var injection = Injection(stage, ns: ns)
  for part in parts.dropFirst() {
    let (key, value) = halves(part, at: "=")
    switch (key, UInt64(value)) {
    case ("every", let every?) where every > 0: injection.every = every
    case ("queue", let qid?) where (1...128).contains(qid): injection.qid = UInt16(qid)
    case ("spin", nil) where value.isEmpty: injection.sleeps = false
    case ("sleep", nil) where value.isEmpty: injection.sleeps = true
    default:
      throw QuantityError(
        description: "\(text): \"\(part)\" is invalid; use every=N, queue=N (1 to 128), spin or sleep")
    }
  }
  return injection
}

private func halves(_ text: some StringProtocol, at separator: Character = ":") -> (String, String) {
  let parts = text.split(separator: separator, maxSplits: 1, omittingEmptySubsequences: false)
  return (String(parts[0]), parts.count == 2 ? String(parts[1]) : "")
}
