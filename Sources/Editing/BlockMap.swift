import Trace

/// Other numbers for logical blocks: in the same order, and with the same distance wherever ranges of commands overlap or
/// touch, or lie within a few blocks of each other. Larger gaps shrink, but alignment to eight blocks stays.
///
/// First it collects every range, then it maps. A namespace's size is a block number too, so ranges stay on their side of
/// its end.
struct BlockMap {
  /// Blocks from `first` up to `end`, which keep their distances, and where the first goes.
  private struct Cluster {
    var first: UInt64
    var end: UInt64
    var place: UInt64 = 0
  }

  private var clusters: [Cluster] = []
  /// How many of them are in order and do not touch.
  private var settled = 0
  private var isComplete = false
  /// Ranges between two of which nothing is known. More need too much memory.
  private static let clustersMax = 1 << 24
  private static let unsettledMax = 1 << 20

  /// - Parameter base: before which no block is mapped; a multiple of the alignment.
  private let base: UInt64
  private static let alignment: UInt64 = 8

  init(base: UInt64 = BlockMap.alignment * .random(in: 1 << 6...1 << 20)) { self.base = base }

  /// Collect a range; without blocks it is the place between two.
  mutating func collect(_ first: UInt64, blocks: UInt64) throws(TraceError) {
    let end = first.addingReportingOverflow(blocks)
    clusters.append(Cluster(first: first, end: end.overflow ? .max : end.partialValue))
    if clusters.count - settled > max(BlockMap.unsettledMax, settled) { try settle() }
  }

  private mutating func settle() throws(TraceError) {
    clusters.sort { $0.first < $1.first }
    var joined: [Cluster] = []
    for cluster in clusters {
      if let last = joined.last, cluster.first <= last.end {
        joined[joined.count - 1].end = max(last.end, cluster.end)
      } else {
        joined.append(cluster)
      }
    }
    (clusters, settled) = (joined, joined.count)
    guard clusters.count <= BlockMap.clustersMax else {
      throw TraceError(
        .damaged,
        "its commands name more than \(BlockMap.clustersMax) separate ranges of blocks: use --keep-lba, or cut it")
    }
  }

  /// Choose the new places. Nothing can be collected after that.
  mutating func complete() throws(TraceError) {
    try settle()
    var (before, place) = (UInt64(0), base)
    for index in clusters.indices {
      let gap = clusters[index].first - before
      place = place &+ (gap < 2 * BlockMap.alignment ? gap : BlockMap.alignment + gap % BlockMap.alignment)
      clusters[index].place = place
      place = place &+ (clusters[index].end - clusters[index].first)
      before = clusters[index].end
    }
    isComplete = true
  }

  /// The new number of a block that was collected.
  func map(_ block: UInt64) -> UInt64 {
    precondition(isComplete)
    var range = 0..<clusters.count
    while range.count > 1 {
      let middle = range.lowerBound + range.count / 2
      if clusters[middle].first <= block {
        range = middle..<range.upperBound
      } else {
        range = range.lowerBound..<middle
      }
    }
    guard let index = range.first else { return base }
    let cluster = clusters[index]
    return cluster.place &+ (min(max(block, cluster.first), cluster.end) - cluster.first)
  }
}
