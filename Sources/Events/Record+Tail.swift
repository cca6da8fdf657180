extension UnsafePointer<Record> {
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
}
