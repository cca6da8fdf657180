import HeapModule

/// Requests of null backends whose service time is running.
struct DelayQueue: ~Copyable {
  private var heap = Heap<Delayed>()

  private struct Delayed: Comparable {
    let dueNs: UInt64
    /// Requests due at the same time complete in order of submission.
    let number: UInt64
    let slot: Int32

    static func < (a: Delayed, b: Delayed) -> Bool { (a.dueNs, a.number) < (b.dueNs, b.number) }
  }

  private var number: UInt64 = 0

  var isEmpty: Bool { heap.isEmpty }

  mutating func add(_ slot: Int32, dueNs: UInt64) {
    number += 1
    heap.insert(Delayed(dueNs: dueNs, number: number, slot: slot))
  }

  /// The slot of a request that is due; nil if there is none.
  mutating func next(nowNs: UInt64) -> Int32? {
    guard let first = heap.min, first.dueNs <= nowNs else { return nil }
    heap.removeMin()
    return first.slot
  }

  /// - Returns: whether the request was still waiting.
  mutating func remove(_ slot: Int32) -> Bool {
    let others = heap.unordered.filter { $0.slot != slot }
    guard others.count < heap.count else { return false }
    heap = Heap(others)
    return true
  }

  mutating func removeAll() { heap = Heap() }
}
