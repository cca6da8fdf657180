/// Fields of a completion queue entry (Base 2.1, 4.2.1).
extension Event.Completion {
  /// SQ identifier (DW2 31:16).
  public var sqid: UInt16 { UInt16(truncatingIfNeeded: dw2 >> 16) }
  /// Phase tag (DW3 16).
  public var phase: Bool { dw3 >> 16 & 1 != 0 }
  /// Status field (DW3 31:17).
  public var status: UInt16 { UInt16(truncatingIfNeeded: dw3 >> 17) }
}
