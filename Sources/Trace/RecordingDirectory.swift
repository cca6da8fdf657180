import Glibc

/// The directory of one trace's rings: accessible only to its owner, in shared memory, or beside the trace if shared
/// memory has no room. Both names derive from the trace, so that a repair finds the remains of a killed recording.
///
/// The recorder holds a lock in it; a directory with a free lock belongs to a killed recorder. A link in it leads to
/// the trace.
public struct RecordingDirectory: Sendable {
  public let path: String
  public let id: TraceID
  /// Held as long as the directory is in use; nil if this process only reads it.
  private let lock: DirectoryLock?

  private static let shared = "/dev/shm"
  private static let prefix = "nvmepf-"
  private static func sharedPath(_ id: TraceID) -> String { "\(shared)/\(prefix)\(id)" }
  private static func fallbackPath(_ tracePath: String) -> String {
    // A recording killed before its first command left its trace under another name.
    let suffix = TraceFile.unpublishedSuffix
    return (tracePath.hasSuffix(suffix) ? String(tracePath.dropLast(suffix.count)) : tracePath) + ".rings"
  }

  private init(path: String, id: TraceID, lock: DirectoryLock? = nil) {
    (self.path, self.id, self.lock) = (path, id, lock)
  }

  /// Create the directory for the trace that will be at `tracePath`.
  /// - Parameters:
  ///   - tracePath: nil if the rings' content does not become a trace.
  ///   - ringBytes: total size of the rings.
  public init(creating id: TraceID, tracePath: String?, ringBytes: UInt64) throws(TraceError) {
    let path =
      if let tracePath, !RecordingDirectory.hasRoom(RecordingDirectory.shared, ringBytes) {
        RecordingDirectory.fallbackPath(RecordingDirectory.absolute(tracePath))
      } else {
        RecordingDirectory.sharedPath(id)
      }
    self.init(path: path, id: id, lock: try RecordingDirectory.make(path, tracePath))
    if let tracePath { symlink(RecordingDirectory.absolute(tracePath), link) }
  }

  private static let triesMax = 16

  /// Create the directory and take its lock. Another process that sweeps may remove it before the lock exists; then
  /// retry.
  private static func make(_ path: String, _ tracePath: String?) throws(TraceError) -> DirectoryLock {
    for _ in 0..<triesMax {
      if mkdir(path, 0o700) == 0 {
        do throws(TraceError) {
          if let lock = try DirectoryLock(creatingIn: path) { return lock }
        } catch {
          rmdir(path)
          throw error
        }
      } else {
        guard let tracePath, errno == EEXIST else { throw TraceError.system("cannot create \(path)", errno) }
        try removeLeftover(path, tracePath)
      }
    }
    throw TraceError.system("cannot create \(path)", EBUSY)
  }

  /// Free a directory name that is in use; this happens only beside a trace.
  private static func removeLeftover(_ path: String, _ tracePath: String) throws(TraceError) {
    if isOwn(path) {
      if removeUnfinished(path) { return }
      if let lock = DirectoryLock(takingFrom: path) {
        let directory = RecordingDirectory(path: path, id: .random(), lock: lock)
        if !directory.holdsEvents { return directory.remove() }
      }
    }
    throw TraceError(
      .system(EEXIST), "\(path) holds events of a recording: run nvmepf repair \(tracePath), or remove the directory")
  }

  /// Remove a directory whose creator ended before it took the lock.
  private static func removeUnfinished(_ path: String) -> Bool {
    if let lock = DirectoryLock(takingUnfinishedFrom: path) { lock.removeUnfinished(from: path) }
    return rmdir(path) == 0
  }

  /// A private directory in shared memory for a temporary trace.
  public static func scratch() throws(TraceError) -> RecordingDirectory {
    try RecordingDirectory(creating: .random(), tracePath: nil, ringBytes: 0)
  }

  /// A file beside the rings that is removed with them.
  public func file(_ name: String) -> String { "\(path)/\(name)" }

  // MARK: What a recording left

  /// The directories that a recording of this trace left or still uses.
  public static func left(by id: TraceID, tracePath: String) -> [RecordingDirectory] {
    [sharedPath(id), fallbackPath(tracePath)].filter(isOwn).map { RecordingDirectory(path: $0, id: id) }
  }

  /// Whether a recorder holds its lock.
  var isInUse: Bool { DirectoryLock.isHeld(in: path) }

  /// The trace that the rings belong to, if it is not this open file, which then is a copy.
  func original(of copy: Int32) -> String? {
    guard let trace else { return nil }
    var (own, other) = (stat(), stat())
    guard fstat(copy, &own) == 0, stat(trace, &other) == 0, own.st_dev != other.st_dev || own.st_ino != other.st_ino
    else { return nil }
    return trace
  }

  /// Remove the remains of this user's killed recordings and servers from shared memory. Rings with events that their
  /// trace lacks stay: as long as that trace exists, and for some days if it is not found, since it may have been
  /// moved.
  /// - Returns: the directories whose last events are only in rings, and their traces, where these exist.
  public static func sweep() -> [(path: String, trace: String)] {
    var kept: [(path: String, trace: String)] = []
    for name in names(in: shared) where name.hasPrefix(prefix) {
      let path = "\(shared)/\(name)"
      guard let id = TraceID(String(name.dropFirst(prefix.count))), isOwn(path), !removeUnfinished(path),
        let lock = DirectoryLock(takingFrom: path)
      else { continue }
      let directory = RecordingDirectory(path: path, id: id, lock: lock)
      let holdsEvents = directory.holdsEvents
      if holdsEvents, let trace = directory.trace {
        kept.append((directory.path, trace))
      } else if !holdsEvents || directory.ageSeconds ?? .max > RecordingDirectory.orphanSecondsMax {
        directory.remove()
      }
    }
    return kept
  }

  /// The directory whose rings hold events that the trace at `path` lacks; nil if there is none.
  static func directory(feeding path: String) -> RecordingDirectory? {
    guard let id = id(of: path) else { return nil }
    return left(by: id, tracePath: path).first { $0.holdsEvents }
  }

  /// Whether a ring has an event that is not in the trace.
  private var holdsEvents: Bool {
    ringPaths().contains { path in
      guard let ring = try? Ring(opening: path, leavingItAlone: true) else { return false }
      return ring.head.pointee.load(ordering: .acquiring) != ring.tail.pointee.load(ordering: .acquiring)
    }
  }

  /// The trace that the rings feed: under its own name, or another that a recording gives it.
  private var trace: String? {
    var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let length = readlink(link, &bytes, bytes.count)
    guard length > 0, length < bytes.count else { return nil }
    let path = String(decoding: bytes.prefix(length), as: UTF8.self)
    return ["", TraceFile.unpublishedSuffix, TraceFile.previousSuffix].map { path + $0 }
      .first { RecordingDirectory.id(of: $0) == id }
  }

  private var link: String { "\(path)/trace" }

  /// How long rings wait for a trace that has disappeared.
  private static let orphanSecondsMax = 7 * 86_400

  /// Nil if the rings were not to become a trace.
  private var ageSeconds: Int? {
    var status = stat()
    return lstat(link, &status) == 0 ? time(nil) - status.st_mtim.tv_sec : nil
  }

  private static func id(of path: String) -> TraceID? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    return (try? TraceScan.header(descriptor, path))?.0.id
  }

  private static func absolute(_ path: String) -> String {
    guard !path.hasPrefix("/"), let folder = getcwd(nil, 0) else { return path }
    defer { free(folder) }
    return "\(String(cString: folder))/\(path)"
  }

  // MARK: Contents

  /// The existing rings, by name.
  func ringPaths() -> [String] {
    RecordingDirectory.names(in: path).filter { $0.hasSuffix(".ring") }.sorted().map { "\(path)/\($0)" }
  }

  /// Remove the directory and everything that a recording put there.
  public func remove() {
    for name in RecordingDirectory.names(in: path) where name != "." && name != ".." { unlink("\(path)/\(name)") }
    rmdir(path)
  }

  private static func names(in path: String) -> [String] {
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

/// The lock of a recording's directory: free when its holder ends, however that happens.
final class DirectoryLock: Sendable {
  private let descriptor: Int32

  private static func path(in directory: String) -> String { "\(directory)/lock" }
  /// Its name until its creator holds it.
  private static func unfinishedPath(in directory: String) -> String { "\(directory)/lock.new" }

  /// Create the lock and take it; it appears when it is held.
  /// - Returns: nil if a sweep removed the directory first.
  init?(creatingIn directory: String) throws(TraceError) {
    let path = DirectoryLock.path(in: directory)
    let unfinished = DirectoryLock.unfinishedPath(in: directory)
    descriptor = open(unfinished, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    if descriptor < 0 {
      if errno == ENOENT { return nil }
      throw TraceError.system("cannot create \(path)", errno)
    }
    // Only a sweep can hold it, and then removes it. On a file system without locks nothing is swept.
    while flock(descriptor, LOCK_EX) != 0, errno == EINTR {}
    if rename(unfinished, path) == 0 { return }
    let error = errno
    unlink(unfinished)
    if error == ENOENT { return nil }
    throw TraceError.system("cannot create \(path)", error)
  }

  /// Take the lock that another process left; nil if there is none or it is held.
  convenience init?(takingFrom directory: String) {
    self.init(DirectoryLock.path(in: directory), LOCK_EX)
  }

  /// The same for a lock that its creator has not taken yet.
  convenience init?(takingUnfinishedFrom directory: String) {
    self.init(DirectoryLock.unfinishedPath(in: directory), LOCK_EX)
  }

  private init?(_ path: String, _ operation: Int32) {
    descriptor = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    // `deinit` closes it.
    guard flock(descriptor, operation | LOCK_NB) == 0 else { return nil }
  }

  func removeUnfinished(from directory: String) { unlink(DirectoryLock.unfinishedPath(in: directory)) }

  static func isHeld(in directory: String) -> Bool {
    access(path(in: directory), F_OK) == 0 && !isFree(in: directory)
  }

  /// Whether the lock exists and its holder has ended. The check uses a shared lock, so concurrent checks do not
  /// conflict.
  static func isFree(in directory: String) -> Bool { DirectoryLock(path(in: directory), LOCK_SH) != nil }

  deinit { close(descriptor) }
}
