import CPlatform
import Glibc
import Storage
import Target

/// A namespace with what lies behind it: it owns the memory, the file or the device.
final class OpenNamespace: @unchecked Sendable {
  let configuration: NamespaceConfiguration
  let namespace: Namespace
  let backend: NamespaceBackend
  private let device: StorageDevice?
  private let memory: NamespaceMemory?
  private let random = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)

  private static let blockShiftDefault: UInt8 = 9

  /// What files and devices need, or why there can be none.
  typealias Storage = Result<StorageHandover, StorageError>

  /// - Parameter prefaulting: told how far memory is prepared; nil where it is taken only as it is written.
  init(
    _ configuration: NamespaceConfiguration, _ storage: Storage, prefaulting: ((Int, Int) -> Void)? = nil
  ) throws(EndpointError) {
    self.configuration = configuration
    var blockShift = configuration.blockShift ?? OpenNamespace.blockShiftDefault
    var isReadOnly = configuration.isReadOnly
    random.initialize(to: 0)
    let bytes: UInt64
    switch configuration.backend {
    case .null(let size, let serviceTime):
      bytes = size
      memory = nil
      device = nil
      backend = ServiceTimer(serviceTime, state: random).map { .slow($0) } ?? .null
    case .memory(let size):
      bytes = size
      device = nil
      let memory = try NamespaceMemory(bytes: size)
      if let prefaulting { try memory.prefault(progress: prefaulting) }
      self.memory = memory
      backend = .memory(MemoryBackend(base: memory.base))
    case .file(let path, _), .passthrough(let path):
      let device = try OpenNamespace.open(configuration, storage)
      memory = nil
      backend = .storage(Unmanaged.passUnretained(device))
      bytes = device.bytes
      isReadOnly = isReadOnly || device.isReadOnly
      let preferred = UInt8(device.logicalBlockBytes.trailingZeroBitCount)
      blockShift = configuration.blockShift ?? preferred
      guard blockShift >= preferred else {
        throw EndpointError(description: "\(path) has blocks of \(device.logicalBlockBytes) bytes: none can be smaller")
      }
      self.device = device
    }
    var namespace = Namespace(nsid: configuration.nsid, blocks: bytes >> blockShift, blockShift: blockShift)
    namespace.isReadOnly = isReadOnly
    namespace.hasReservations = configuration.hasReservations
    namespace.uuid = configuration.uuid ?? .none
    namespace.nguid = configuration.nguid ?? .none
    self.namespace = namespace
    guard namespace.isValid else {
      throw EndpointError(
        description: "namespace \(configuration.nsid): \(bytes) bytes in blocks of \(1 << blockShift) are not possible")
    }
  }

  deinit { random.deallocate() }

  private static func open(_ configuration: NamespaceConfiguration, _ storage: Storage) throws(EndpointError)
    -> StorageDevice
  {
    do throws(StorageError) {
      let device = try open(configuration)
      guard try storage.get().canPassThrough || !device.isPassedThrough else {
        throw StorageError(description: "\(device.path): passing commands through needs Linux 5.19")
      }
      return device
    } catch {
      guard error.isOutOfDescriptors else { throw EndpointError(description: error.description) }
      throw EndpointError(
        description: "no file descriptors are left for namespace \(configuration.nsid), \(configuration.backend): "
          + "one on a file or device needs two, and ulimit -Hn sets how many there are")
    }
  }

  private static func open(_ configuration: NamespaceConfiguration) throws(StorageError) -> StorageDevice {
    switch configuration.backend {
    case .file(let path, let buffered):
      return try StorageDevice(path: path, readOnly: configuration.isReadOnly, buffered: buffered)
    case .passthrough(let path): return try StorageDevice(path: path, readOnly: configuration.isReadOnly)
    case .null, .memory: preconditionFailure("these have no device")
    }
  }
}
