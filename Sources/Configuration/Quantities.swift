import Backends

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

private func halves(_ text: some StringProtocol, at separator: Character = ":") -> (String, String) {
  let parts = text.split(separator: separator, maxSplits: 1, omittingEmptySubsequences: false)
  return (String(parts[0]), parts.count == 2 ? String(parts[1]) : "")
}
