import Glibc

/// Where the rings of one trace live: a directory that only its owner may enter, in shared memory, or beside the trace
/// where shared memory has no room. Both names follow from the trace alone, so that a repair finds what a kill left.
public struct RecordingDirectory: Sendable {
  public let path: String
  public let id: TraceID

  private static func sharedPath(_ id: TraceID) -> String { "/dev/shm/nvmepf-\(id)" }
  private static func fallbackPath(_ tracePath: String) -> String { tracePath + ".rings" }

  private init(path: String, id: TraceID) { (self.path, self.id) = (path, id) }

  /// Make the directory for the trace that will be at `tracePath`.
  /// - Parameter ringBytes: Room that the rings will need in all.
  public static func create(id: TraceID, tracePath: String, ringBytes: UInt64) throws(TraceError) -> RecordingDirectory
  {
    let path = hasRoom("/dev/shm", ringBytes) ? sharedPath(id) : fallbackPath(tracePath)
    guard mkdir(path, 0o700) == 0 else {
      let remedy = errno == EEXIST ? "; a recording left it: nvmepf repair \(tracePath)" : ""
      throw TraceError(.system(errno), "cannot create \(path): \(String(cString: strerror(errno)))\(remedy)")
    }
    let directory = RecordingDirectory(path: path, id: id)
    try directory.writeID()
    return directory
  }

  /// The directories that a recording of this trace left behind.
  public static func left(by id: TraceID, tracePath: String) -> [RecordingDirectory] {
    [sharedPath(id), fallbackPath(tracePath)].filter(isOwn).map { RecordingDirectory(path: $0, id: id) }
  }

  /// The directory of a recording that runs, for another process to record into.
  public init(opening path: String) throws(TraceError) {
    guard RecordingDirectory.isOwn(path) else {
      throw TraceError(.damaged, "\(path) is not a directory of this user's recording")
    }
    var target = [CChar](repeating: 0, count: 33)
    let length = readlink(path + "/id", &target, 33)
    guard length == 32,
      let id = TraceID(String(decoding: target.prefix(32).map { UInt8(bitPattern: $0) }, as: UTF8.self))
    else { throw TraceError(.damaged, "\(path) is not a directory of a recording") }
    self.init(path: path, id: id)
  }

  /// Make a ring with a stream number that no other ring of the trace has or had.
  /// - Parameter capacity: Slots; a power of two.
  public func makeRing(source: Source, capacity: UInt64) throws(TraceError) -> Ring {
    for stream in 0..<UInt16(TraceWriter.streamsMax) {
      let reservation = open("\(path)/\(stream).stream", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
      if reservation < 0 && errno == EEXIST { continue }
      guard reservation >= 0 else { throw TraceError.system("cannot create a ring in \(path)", errno) }
      close(reservation)
      return try Ring(
        creating: "\(path)/\(stream).ring", capacity: capacity, source: source, stream: stream, traceID: id)
    }
    throw TraceError(.system(EMFILE), "\(path): a trace has at most \(TraceWriter.streamsMax) streams")
  }

  /// The rings that are there, by name.
  func ringPaths() -> [String] { names().filter { $0.hasSuffix(".ring") }.sorted().map { "\(path)/\($0)" } }

  /// Remove the directory and what a recording put there.
  public func remove() {
    for name in names()
    where name == "id" || name.hasSuffix(".ring") || name.hasSuffix(".stream") || name.hasSuffix(".ring.new") {
      unlink("\(path)/\(name)")
    }
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

  /// The identifier as the target of a link, which is there whole or not at all.
  private func writeID() throws(TraceError) {
    guard symlink(id.description, path + "/id") == 0 else {
      throw TraceError.system("cannot write into \(path)", errno)
    }
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

extension TraceID {
  /// From 32 hexadecimal digits.
  public init?(_ text: String) {
    guard text.utf8.count == 32, text.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
      let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.suffix(16), radix: 16)
    else { return nil }
    self.init(high: high, low: low)
  }
}
