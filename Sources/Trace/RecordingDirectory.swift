import Glibc

/// Where the rings of a recording lie: in memory, under the trace's identifier, where recorder, engine, hosts and a
/// later repair find them.
public struct RecordingDirectory: Sendable {
  public let path: String

  public static func path(of id: TraceID) -> String { "/dev/shm/nvmepf-\(id)" }

  /// Make it, for this user alone.
  public init(creating id: TraceID) throws(TraceError) {
    path = RecordingDirectory.path(of: id)
    guard mkdir(path, 0o700) == 0 else { throw .system("cannot make \(path)", errno) }
  }

  /// The ring files in a directory, in the order of their names.
  public static func rings(in directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name.hasSuffix(".ring") { names.append("\(directory)/\(name)") }
    }
    return names.sorted()
  }

  /// Remove it with whatever rings are still in it.
  public static func remove(_ path: String) {
    for ring in rings(in: path) { unlink(ring) }
    rmdir(path)
  }
}
