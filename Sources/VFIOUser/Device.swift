import Glibc

/// A range of the client's memory accessible to the device.
public struct DMAMapping: @unchecked Sendable {
  /// First PCI address.
  public let address: UInt64
  /// Bytes.
  public let size: UInt64
  public let isWritable: Bool
  /// Its address in this process; nil if the client gave no descriptor.
  public let base: UnsafeMutableRawPointer?
  /// Its whole mapping, which whole huge pages may extend.
  public let mapping: UnsafeMutableRawBufferPointer
}

/// A device that a server serves. Every call comes from the serving thread, one at a time.
public protocol Device: AnyObject {
  /// A client connects. False if the device has no resources for it.
  func connected() -> Bool
  /// Readable when the device cannot continue with its client, which is then disconnected; -1 for never.
  var alarm: Int32 { get }
  /// The reason; ends the alarm.
  func consumeAlarm() -> String?

  /// By VFIO region index; `PCIRegion.count` of them.
  var regions: [RegionDescription] { get }
  /// Number of interrupts of each kind.
  func interruptCount(_ kind: InterruptKind) -> UInt32

  /// Read a region; the range lies within it. False refuses the access.
  func read(region: UInt32, offset: UInt64, into bytes: UnsafeMutableRawBufferPointer) -> Bool
  func write(region: UInt32, offset: UInt64, _ bytes: UnsafeRawBufferPointer) -> Bool

  /// The memory may be used from now on. False refuses the mapping.
  func map(_ mapping: DMAMapping) -> Bool
  /// The device must not access the memory after this returns.
  func unmap(address: UInt64, size: UInt64)

  /// Signal this descriptor for an interrupt; -1 for none. The device must no longer use the previous one when this
  /// returns.
  /// - Returns: 0, or an errno.
  func setInterrupt(_ kind: InterruptKind, index: UInt32, descriptor: Int32) -> Int32
  /// INTx is a level that is signalled once. A client that has handled it unmasks it, and is signalled again if it is
  /// still asserted.
  func setPinMask(isMasked: Bool)
  /// Raise the interrupt as if the device had.
  func trigger(_ kind: InterruptKind, index: UInt32)

  func reset()
  /// The client has disconnected; its memory and descriptors are released when this returns.
  func disconnected()
}
