import Glibc

/// Where the rings of one trace live: a directory that only its owner may enter, in shared memory, or beside the trace
/// where shared memory has no room. Both names follow from the trace alone, so that a repair finds what a kill left.
public struct RecordingDirectory: Sendable {
  public let path: String
  public let id: TraceID

  private static func sharedPath(_ id: TraceID) -> String { "/dev/shm/nvmepf-\(id)" }
  private static func fallbackPath(_ tracePath: String) -> String {
    // A recording that was killed before its first command left its trace under another name.
    let suffix = TraceFile.unpublishedSuffix
    return (tracePath.hasSuffix(suffix) ? String(tracePath.dropLast(suffix.count)) : tracePath) + ".rings"
  }

  private init(path: String, id: TraceID) { (self.path, self.id) = (path, id) }

  /// Make the directory for the trace that will be at `tracePath`.
  /// - Parameters:
  ///   - tracePath: nil when the rings' contents become no trace.
  ///   - ringBytes: Room that the rings will need in all.
  public init(creating id: TraceID, tracePath: String?, ringBytes: UInt64) throws(TraceError) {
    self.id = id
    path =
      if let tracePath, !RecordingDirectory.hasRoom("/dev/shm", ringBytes) {
        RecordingDirectory.fallbackPath(tracePath)
      } else {
        RecordingDirectory.sharedPath(id)
      }
    guard mkdir(path, 0o700) == 0 else {
      guard let tracePath, errno == EEXIST else { throw TraceError.system("cannot create \(path)", errno) }
      throw TraceError(.system(EEXIST), "\(path) was left by a recording: nvmepf repair \(tracePath)")
    }
  }

  /// The directories that a recording of this trace left behind.
  public static func left(by id: TraceID, tracePath: String) -> [RecordingDirectory] {
    [sharedPath(id), fallbackPath(tracePath)].filter(isOwn).map { RecordingDirectory(path: $0, id: id) }
  }

  /// The rings that are there, by name.
  func ringPaths() -> [String] { names().filter { $0.hasSuffix(".ring") }.sorted().map { "\(path)/\($0)" } }

  /// Remove the directory and what a recording put there.
  public func remove() {
    for name in names() where name != "." && name != ".." { unlink("\(path)/\(name)") }
    rmdir(path)
  }

  private func names() -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      names.append(
        withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        })
    }
    return names
  }

  private static func isOwn(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR && status.st_uid == geteuid()
  }

  private static func hasRoom(_ path: String, _ bytes: UInt64) -> Bool {
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { return false }
    let (free, overflow) = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
    return overflow || free >= bytes
  }
}
