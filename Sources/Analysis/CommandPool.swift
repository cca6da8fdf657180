/// The commands in flight, found by queue and command identifier until their completion is posted, and by index until
/// they are reaped. Memory grows with the largest number in flight, up to a limit.
struct CommandPool: ~Copyable {
  static let countMax = 1 << 19

  /// The first `indexEnd` places hold commands, those in flight and others whose place is free. A command holds no
  /// reference, so that nothing must be done to forget it.
  private var commands: UnsafeMutablePointer<TrackedCommand>
  private var capacity = 64
  private var free: [UInt32] = []
  /// Marks which of `commands` are in flight.
  private var isLive: [Bool] = []
  private(set) var liveCount = 0
  private var table = CommandTable()

  init() { commands = .allocate(capacity: capacity) }

  deinit { commands.deallocate() }

  var isFull: Bool { liveCount >= CommandPool.countMax }
  /// Indices of all commands in flight are below this.
  private(set) var indexEnd = 0

  /// Accessed in place: a command is large.
  subscript(index: UInt32) -> TrackedCommand {
    @inline(__always) _read {
      precondition(index < indexEnd)
      yield commands[Int(index)]
    }
    @inline(__always) _modify {
      precondition(index < indexEnd)
      yield &commands[Int(index)]
    }
  }

  func isLive(_ index: UInt32) -> Bool { isLive[Int(index)] }

  /// Index of the command that the engine holds under this name, or `TrackedCommand.none`.
  @inline(__always)
  func find(_ qid: UInt16, _ cid: UInt16) -> UInt32 { table.find(UInt32(qid) << 16 | UInt32(cid)) }

  /// - Precondition: the pool is not full and has no command of this name.
  mutating func insert(_ command: borrowing TrackedCommand) -> UInt32 {
    precondition(!isFull)
    let index: UInt32
    if let reused = free.popLast() {
      index = reused
      isLive[Int(index)] = true
    } else {
      if indexEnd == capacity { grow() }
      index = UInt32(indexEnd)
      indexEnd += 1
      isLive.append(true)
    }
    (commands + Int(index)).initialize(to: copy command)
    liveCount += 1
    table.insert(UInt32(command.qid) << 16 | UInt32(command.cid), index)
    return index
  }

  private mutating func grow() {
    let larger = UnsafeMutablePointer<TrackedCommand>.allocate(capacity: 2 * capacity)
    larger.moveInitialize(from: commands, count: indexEnd)
    commands.deallocate()
    (commands, capacity) = (larger, 2 * capacity)
  }

  /// The command now belongs to the host; its name is free for another.
  mutating func unname(_ index: UInt32) { table.remove(UInt32(self[index].qid) << 16 | UInt32(self[index].cid)) }

  /// - Precondition: the command has no name.
  mutating func remove(_ index: UInt32) {
    precondition(isLive[Int(index)])
    isLive[Int(index)] = false
    liveCount -= 1
    free.append(index)
  }
}

extension CommandPool {
  /// Forget every index, so that a walk over all of them is short again.
  /// - Precondition: no command is in flight.
  mutating func restart() {
    precondition(liveCount == 0)
    self = CommandPool()
  }
}

/// A hash table from 32-bit keys to 32-bit indices: open addressing, linear probing, at most half full.
public struct CommandTable: ~Copyable {
  /// Key in the upper half, index + 1 in the lower; 0 is an empty place. Their number is a power of two.
  private var places = CommandTable.emptyPlaces(1024)
  private var mask = 1023
  private var count = 0
  private var shift: UInt64 = 54

  public init() {}

  deinit { places.deallocate() }

  private static func emptyPlaces(_ count: Int) -> UnsafeMutablePointer<UInt64> {
    let places = UnsafeMutablePointer<UInt64>.allocate(capacity: count)
    places.initialize(repeating: 0, count: count)
    return places
  }

  @inline(__always)
  private func home(_ key: UInt32) -> Int {
    // Multiplying by 2^64 divided by the golden ratio spreads neighbouring keys; the upper bits are the best.
    Int(truncatingIfNeeded: (UInt64(key) &* 0x9e37_79b9_7f4a_7c15) >> shift)
  }

  /// - Returns: its index; the largest number if the key is not in the table.
  @inline(__always)
  public func find(_ key: UInt32) -> UInt32 {
    var place = home(key)
    while places[place] != 0 {
      if places[place] >> 32 == UInt64(key) { return UInt32(truncatingIfNeeded: places[place]) &- 1 }
      place = (place + 1) & mask
    }
    return TrackedCommand.none
  }

  /// - Precondition: the key is not in the table.
  public mutating func insert(_ key: UInt32, _ index: UInt32) {
    if count * 2 > mask { grow() }
    place(UInt64(key) << 32 | UInt64(index + 1))
    count += 1
  }

  /// Does nothing without the key.
  public mutating func remove(_ key: UInt32) {
    var hole = home(key)
    while places[hole] >> 32 != UInt64(key) || places[hole] == 0 {
      if places[hole] == 0 { return }
      hole = (hole + 1) & mask
    }
    count -= 1
    // Close the gap: move every entry that would become unreachable into it.
    var next = (hole + 1) & mask
    while places[next] != 0 {
      let home = home(UInt32(places[next] >> 32))
      if (next - home) & mask >= (next - hole) & mask {
        places[hole] = places[next]
        hole = next
      }
      next = (next + 1) & mask
    }
    places[hole] = 0
  }

  private mutating func place(_ entry: UInt64) {
    var place = home(UInt32(entry >> 32))
    while places[place] != 0 { place = (place + 1) & mask }
    places[place] = entry
  }

  private mutating func grow() {
    let (old, oldMask) = (places, mask)
    defer { old.deallocate() }
    mask = mask << 1 | 1
    places = CommandTable.emptyPlaces(mask + 1)
    shift -= 1
    for index in 0...oldMask where old[index] != 0 { place(old[index]) }
  }
}
