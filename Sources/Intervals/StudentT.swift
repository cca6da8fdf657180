import Glibc

/// Student's t distribution.
enum StudentT {
  /// The value that a t variable stays below with this probability.
  /// - Parameters:
  ///   - probability: at least 0.5 and below 1.
  ///   - degrees: degrees of freedom, not necessarily whole; above 0.
  static func quantile(_ probability: Double, degrees: Double) -> Double {
    precondition((0.5..<1).contains(probability) && degrees > 0)
    var (low, high) = (0.0, 1.0)
    while upperTail(high, degrees) > 1 - probability, high < 1e12 { (low, high) = (high, 2 * high) }
    for _ in 0..<60 {
      let middle = (low + high) / 2
      if upperTail(middle, degrees) > 1 - probability { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }

  /// The probability of a value above `t`, for `t` of at least 0.
  private static func upperTail(_ t: Double, _ degrees: Double) -> Double {
    incompleteBeta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2
  }

  /// The regularised incomplete beta function (NIST DLMF, 8.17).
  private static func incompleteBeta(_ x: Double, _ a: Double, _ b: Double) -> Double {
    guard x > 0, x < 1 else { return x <= 0 ? 0 : 1 }
    // The fraction converges quickly on this side of the mean only.
    guard x <= (a + 1) / (a + b + 2) else { return 1 - incompleteBeta(1 - x, b, a) }
    let scale = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    return scale / (a * fraction(x, a, b))
  }

  /// The continued fraction of DLMF 8.17.22, by Lentz's method.
  private static func fraction(_ x: Double, _ a: Double, _ b: Double) -> Double {
    let tiny = 1e-300
    var (value, c, d) = (1.0, 1.0, 0.0)
    for n in 1...1000 {
      let m = Double(n / 2)
      let term =
        n % 2 == 0
        ? m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        : -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
      d = 1 / nonzero(1 + term * d, tiny)
      c = nonzero(1 + term / c, tiny)
      value *= c * d
      if abs(c * d - 1) < 1e-15 { break }
    }
    return value
  }

  private static func nonzero(_ value: Double, _ tiny: Double) -> Double { abs(value) < tiny ? tiny : value }
}
