import NVMe
import Target

/// The backend of one namespace, switched on without an existential: it is asked for every command.
enum NamespaceBackend: BitwiseCopyable {
  case null(NullBackend)
  case memory(MemoryBackend)

  @inline(__always)
  var storage: UnsafeMutableRawPointer? {
    switch self {
    case .null: nil
    case .memory(let backend): backend.storage
    }
  }

  @inline(__always)
  func execute(_ request: IORequest) -> Status {
    switch self {
    case .null(let backend): backend.execute(request)
    case .memory(let backend): backend.execute(request)
    }
  }
}
