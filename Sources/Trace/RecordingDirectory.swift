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
    entries(of: directory).filter { $0.hasSuffix(".ring") }.sorted()
  }

  /// Remove it with all that is still in it: rings, the socket, copies of job files.
  public static func remove(_ path: String) {
    for entry in entries(of: path) { unlink(entry) }
    rmdir(path)
  }

  private static func entries(of directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var paths: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { paths.append("\(directory)/\(name)") }
    }
    return paths
  }
}
