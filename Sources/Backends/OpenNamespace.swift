import Chance
import Glibc
import Platform
import Storage
import Synchronization
import Target

/// A namespace with its backend; owns the memory, file or device.
public final class OpenNamespace: @unchecked Sendable {
  public let configuration: NamespaceConfiguration
  public let namespace: Namespace
  public let backend: NamespaceBackend
  private let device: StorageDevice?
  private let memory: NamespaceMemory?
  private let random = UnsafeMutablePointer<SeededGenerator>.allocate(capacity: 1)

  private static let blockShiftDefault: UInt8 = 9
  /// Time limit for opening a file or device.
  private static let openingMs = 10_000

  /// The storage queue for files and devices, or why there is none.
  public typealias Storage = Result<StorageHandover, StorageError>

  /// How a namespace is prepared, which may take long.
  public struct Preparation {
    /// Called with the bytes of memory allocated so far; nil to allocate memory only when it is written.
    let prefaulting: ((Int, Int) -> Void)?
    /// Whether the process or the endpoint is ending.
    let isInterrupted: @Sendable () -> Bool

    public init(
      prefaulting: ((Int, Int) -> Void)? = nil, isInterrupted: @escaping @Sendable () -> Bool = { false }
    ) {
      self.prefaulting = prefaulting
      self.isInterrupted = isInterrupted
    }
  }

  public init(
    _ configuration: NamespaceConfiguration, _ storage: Storage, _ preparation: Preparation = Preparation()
  ) throws(EndpointError) {
    self.configuration = configuration
    var blockShift = configuration.blockShift ?? OpenNamespace.blockShiftDefault
    var isReadOnly = configuration.isReadOnly
    random.initialize(to: SeededGenerator(seed: 0))
    let bytes: UInt64
    switch configuration.backend {
    case .null(let size, let serviceTime):
      bytes = size
      memory = nil
      device = nil
      backend = ServiceTimer(serviceTime, random: random).map { .slow($0) } ?? .null
    case .memory(let size):
      bytes = size
      device = nil
      let memory = try NamespaceMemory(bytes: size)
      if let prefaulting = preparation.prefaulting {
        let isReady = try memory.prefault(isInterrupted: preparation.isInterrupted, progress: prefaulting)
        guard isReady else { throw OpenNamespace.interruption(configuration.nsid) }
      }
      self.memory = memory
      backend = .memory(MemoryBackend(base: memory.base))
    case .file(let path, _), .passthrough(let path):
      let device = try OpenNamespace.open(configuration, storage, preparation)
      memory = nil
      backend = .storage(Unmanaged.passUnretained(device))
      bytes = device.bytes
      isReadOnly = isReadOnly || device.isReadOnly
      let preferred = UInt8(device.logicalBlockBytes.trailingZeroBitCount)
      blockShift = configuration.blockShift ?? preferred
      guard blockShift >= preferred else {
        throw EndpointError(
          description: "\(path) has blocks of \(device.logicalBlockBytes) bytes; --block-size cannot be smaller")
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

  private static func interruption(_ nsid: UInt32) -> EndpointError {
    EndpointError(description: "a signal came before namespace \(nsid) was ready")
  }

  private static func open(
    _ configuration: NamespaceConfiguration, _ storage: Storage, _ preparation: Preparation
  ) throws(EndpointError) -> StorageDevice {
    let opening = Opening { () throws(StorageError) in try open(configuration) }
    guard let result = opening.wait(milliseconds: OpenNamespace.openingMs, unless: preparation.isInterrupted) else {
      guard !preparation.isInterrupted() else { throw interruption(configuration.nsid) }
      throw EndpointError(
        description: "cannot open \(configuration.backend): its file system or device has not answered for "
          + "\(OpenNamespace.openingMs / 1000) s")
    }
    do throws(StorageError) {
      let device = try result.get()
      guard try storage.get().canPassThrough || !device.isPassedThrough else {
        throw StorageError(description: "\(device.path): passthrough needs Linux 5.19")
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

/// Opens a file or device on its own thread, because a file system may never answer. A late result is closed again.
private final class Opening: Sendable {
  private let result = Mutex<Result<StorageDevice, StorageError>?>(nil)
  private let done = Signal()

  private static let lookMs = 50

  init(_ open: @escaping @Sendable () throws(StorageError) -> StorageDevice) {
    let opening = Unmanaged.passRetained(self)
    WorkerThread.runDetached(name: "nvmepf-open") {
      let opening = opening.takeRetainedValue()
      let result = Result { () throws(StorageError) in try open() }
      opening.result.withLock { $0 = result }
      opening.done.raise()
    }
  }

  /// - Returns: nil if there is no result in time, or the wait was interrupted.
  func wait(milliseconds: Int, unless isInterrupted: () -> Bool) -> Result<StorageDevice, StorageError>? {
    let end = Clock.monotonicNs() + UInt64(milliseconds) * 1_000_000
    while !done.wait(milliseconds: min(milliseconds, Opening.lookMs)) {
      if isInterrupted() || Clock.monotonicNs() >= end { return nil }
    }
    return result.withLock { $0 }
  }
}
