import Glibc

/// A range of the client's memory that the device may reach.
public struct DMAMapping: @unchecked Sendable {
  /// First PCI address.
  public let address: UInt64
  /// Bytes.
  public let size: UInt64
  public let isWritable: Bool
  /// Where it lies in this process; nil where the client gave no descriptor.
  public let base: UnsafeMutableRawPointer?
  /// The whole of the mapping that it lies in, which whole huge pages make larger.
  public let mapping: UnsafeMutableRawBufferPointer
}

/// What a server serves. Every call comes from the serving thread, one at a time.
public protocol Device: AnyObject {
  /// A client comes. False when the device has no resources for it.
  func connected() -> Bool
  /// Readable when the device cannot go on with its client, which is dropped; -1 for never.
  var alarm: Int32 { get }
  /// Why; the alarm ends.
  func takeAlarm() -> String?

  /// By VFIO region index; `PCIRegion.count` of them.
  var regions: [RegionDescription] { get }
  /// How many interrupts of each kind there are.
  func interruptCount(_ kind: InterruptKind) -> UInt32

  /// Read a region; the range lies within it. False refuses the access.
  func read(region: UInt32, offset: UInt64, into bytes: UnsafeMutableRawBufferPointer) -> Bool
  func write(region: UInt32, offset: UInt64, _ bytes: UnsafeRawBufferPointer) -> Bool

  /// The memory may be used from now on. False refuses the mapping.
  func map(_ mapping: DMAMapping) -> Bool
  /// The memory must not be touched any more once this returns.
  func unmap(address: UInt64, size: UInt64)

  /// Signal this descriptor for an interrupt; -1 for nothing. The device must be done with the one before when this
  /// returns.
  /// - Returns: 0, or an errno.
  func setInterrupt(_ kind: InterruptKind, index: UInt32, descriptor: Int32) -> Int32
  /// INTx is a level that is signalled once. A client that has dealt with it unmasks it, and is signalled again if it is
  /// asserted still.
  func setPinMask(isMasked: Bool)
  /// Raise the interrupt, as if the device had.
  func trigger(_ kind: InterruptKind, index: UInt32)

  func reset()
  /// The client is gone; its memory and descriptors go when this returns.
  func disconnected()
}
