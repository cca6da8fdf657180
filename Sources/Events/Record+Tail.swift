extension UnsafePointer<Record> {
  /// The slots behind the record.
  public var tail: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: self + 1, count: Int(pointee.tail) * Record.size)
  }

  /// The bytes that a kind carries which carries bytes; nil where there are none.
  public var bytes: UnsafeRawBufferPointer? {
    guard pointee.flags & Record.carriesBytesFlag != 0, Int(pointee.bLow) <= Int(pointee.tail) * Record.size else {
      return nil
    }
    return UnsafeRawBufferPointer(start: self + 1, count: Int(pointee.bLow))
  }

  /// What always follows a record of its kind; nil where something else does.
  @inline(__always)
  public func fixedTail<T: BitwiseCopyable>(as type: T.Type) -> T? {
    guard Int(pointee.tail) * Record.size == MemoryLayout<T>.size else { return nil }
    return UnsafeRawPointer(self + 1).loadUnaligned(as: T.self)
  }
}

extension Record {
  /// The bit of `flags` that says, in kinds that carry bytes, that `bLow` of them follow.
  public static let carriesBytesFlag: UInt8 = 0x80

  /// Whether as many slots follow as the event table says.
  public var hasTailOfItsKind: Bool {
    guard let description = event?.description else { return false }
    let carried = description.carriesBytes && flags & Record.carriesBytesFlag != 0 ? Int(bLow) : 0
    return Int(tail) == Record.slots(description.fixedTailBytes + carried)
  }

  /// Slots that so many bytes take.
  public static func slots(_ bytes: Int) -> Int { (bytes + size - 1) / size }
}
