/// A queue of bounded length whose elements keep their position, counted from the first that ever entered it.
///
/// It holds no more elements than a queue of the specification (Base 2.1, 3.3.1) and does not grow beyond a budget
/// shared with other queues; beyond either limit it evicts its oldest element.
struct Fifo<Element: BitwiseCopyable> {
  static var countMax: Int { 65_536 }

  private var storage: [Element] = []
  /// Position of the oldest element.
  private(set) var start = 0
  /// Position after the newest.
  private(set) var end = 0

  var isEmpty: Bool { start == end }
  var count: Int { end - start }
  var first: Element? { isEmpty ? nil : self[start] }

  subscript(position: Int) -> Element {
    get { storage[position & (storage.count - 1)] }
    _modify { yield &storage[position & (storage.count - 1)] }
  }

  /// - Parameter budget: how many more elements all queues may allocate.
  /// - Returns: the oldest element, if it was evicted.
  mutating func append(_ element: Element, _ budget: inout Int) -> Element? {
    var evicted: Element?
    if count == storage.count, !grow(element, &budget) {
      guard let oldest = first else { return element }
      evicted = oldest
      start += 1
    }
    end += 1
    self[end - 1] = element
    return evicted
  }

  /// The positions of its elements from one on, up to but not including another.
  @inline(__always)
  func positions(from: Int = .min, upTo: Int = .max) -> Range<Int> {
    let first = max(from, start)
    return first..<max(first, min(upTo, end))
  }

  /// - Parameter count: elements to remove.
  mutating func removeFirst(_ count: Int = 1) {
    precondition(self.count >= count)
    start += count
  }

  mutating func removeAll() { start = end }

  private mutating func grow(_ filler: Element, _ budget: inout Int) -> Bool {
    let size = max(16, storage.count * 2)
    guard size <= Self.countMax, size - storage.count <= budget else { return false }
    budget -= size - storage.count
    var larger = [Element](repeating: filler, count: size)
    for position in start..<end { larger[position & (size - 1)] = self[position] }
    storage = larger
    return true
  }
}
