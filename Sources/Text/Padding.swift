extension String {
  /// Followed by spaces up to this number of characters.
  public func padded(to count: Int) -> String { self + String(repeating: " ", count: max(0, count - self.count)) }
}
