extension UnsafePointer<Record> {
  /// The slots after the record.
  public var tail: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: self + 1, count: Int(pointee.tail) * Record.size)
  }

  /// The bytes that the event carries; nil if there are none.
  public var bytes: UnsafeRawBufferPointer? {
    guard pointee.flags & Record.carriesBytesFlag != 0, Int(pointee.bLow) <= Int(pointee.tail) * Record.size else {
      return nil
    }
    return UnsafeRawBufferPointer(start: self + 1, count: Int(pointee.bLow))
  }

  /// The fixed tail of a record of its kind; nil if it has another tail.
  @inline(__always)
  public func fixedTail<T: BitwiseCopyable>(as type: T.Type) -> T? {
    guard Int(pointee.tail) * Record.size == MemoryLayout<T>.size else { return nil }
    return UnsafeRawPointer(self + 1).loadUnaligned(as: T.self)
  }
}

extension Record {
  /// The bit of `flags` which, in kinds that carry bytes, means that `bLow` bytes follow.
  public static let carriesBytesFlag: UInt8 = 0x80

  /// Whether the number of slots conforms to the event table.
  public var hasTailOfItsKind: Bool {
    guard let description = event?.description else { return false }
    let carried = description.carriesBytes && flags & Record.carriesBytesFlag != 0 ? Int(bLow) : 0
    return Int(tail) == Record.slots(description.fixedTailBytes + carried)
  }

  /// Slots needed for this many bytes.
  public static func slots(_ bytes: Int) -> Int { (bytes + size - 1) / size }
}
