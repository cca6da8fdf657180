import CPlatform
import Glibc

/// A file that grows by complete pieces: a piece that cannot be written completely leaves no partial data.
struct TraceFile: ~Copyable {
  var path: String
  let descriptor: Int32
  /// Final path of the file, effective when it is published.
  private var unpublished: String?
  /// Current path of the file.
  var place: String { unpublished ?? path }
  /// Complete bytes.
  private(set) var end: UInt64 = 0

  /// Create the file, or truncate an existing one, and lock it against a second writer and a repair. Only its owner may
  /// read it: a trace contains data from the host's disks.
  init(creating path: String) throws(TraceError) {
    self.init(path, try TraceFile.openEmpty(path), unpublished: nil)
  }

  private init(_ path: String, _ descriptor: Int32, unpublished: String?) {
    self.path = path
    self.descriptor = descriptor
    self.unpublished = unpublished
  }

  /// Suffix of a trace's name until it has a command.
  static let unpublishedSuffix = ".part"

  /// Create the file beside the existing one, which stays until `publish`. Does not overwrite the remains of a killed
  /// recording under either name if a repair can still recover them.
  init(replacing path: String) throws(TraceError) {
    let target = TraceFile.resolved(path)
    let isReplaceable = try TraceFile.isReplaceable(target)
    let place = isReplaceable ? target + TraceFile.unpublishedSuffix : path
    if isReplaceable { try TraceFile.keepFed(target + TraceFile.previousSuffix) }
    self.init(
      path, try TraceFile.openEmpty(place, isOwnName: isReplaceable), unpublished: isReplaceable ? place : nil)
  }

  /// Create a temporary file that replaces the one at `path` with `publish`; a symbolic link there stays, and its
  /// target is replaced. The new file has the owner and permissions of `original`.
  init(beside path: String, like original: Int32) throws(TraceError) {
    let target = TraceFile.resolved(path)
    var status = stat()
    guard lstat(target, &status) != 0 || status.st_mode & S_IFMT == S_IFREG else {
      throw TraceError(.system(EEXIST), "cannot replace \(path): it is not a file")
    }
    let (made, name) = try TraceFile.makeTemporary(target, path)
    self.init(path, made, unpublished: name)
    guard fstat(original, &status) == 0 else { return }
    // For another owner or group the permissions would have a different meaning.
    let hasOwner = fchown(descriptor, status.st_uid, status.st_gid) == 0
    fchmod(descriptor, status.st_mode & (hasOwner ? 0o777 : 0o700))
  }

  /// The same for a trace made from the open trace `original`. It refuses to replace the original itself, a trace that
  /// is being recorded, and one that a repair can complete.
  init(editing original: Int32, as path: String) throws(TraceError) {
    let target = TraceFile.resolved(path)
    var (own, other) = (stat(), stat())
    if fstat(original, &own) == 0, stat(target, &other) == 0, own.st_dev == other.st_dev, own.st_ino == other.st_ino {
      throw TraceError(.system(EEXIST), "\(path) is the trace to read: write to another file")
    }
    if try TraceFile.isReplaceable(target) { try TraceFile.keepFed(target) }
    try self.init(beside: path, like: original)
  }

  private static func makeTemporary(_ target: String, _ path: String) throws(TraceError) -> (Int32, String) {
    var template = Array("\(target).XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    guard descriptor >= 0 else { throw TraceError.system("cannot create a file beside \(path)", errno) }
    let name = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    do throws(TraceError) { try lock(descriptor, path: name) } catch {
      close(descriptor)
      unlink(name)
      throw error
    }
    return (descriptor, name)
  }

  /// The path with its symbolic links resolved, whether there is a file or not.
  private static func resolved(_ path: String) -> String {
    var path = path
    for _ in 0..<32 {
      var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
      let length = readlink(path, &bytes, bytes.count)
      guard length > 0, length < bytes.count else { break }
      let target = String(decoding: bytes.prefix(length), as: UTF8.self)
      let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
      path = target.hasPrefix("/") ? target : folder + target
    }
    return path
  }

  /// Whether `path` is a regular, writable file that nobody is recording to. Other files have no previous trace to
  /// keep: a device, a pipe, a new file.
  private static func isReplaceable(_ path: String) throws(TraceError) -> Bool {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return false }
    let previous = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    guard previous >= 0 else { throw TraceError.system("cannot create \(path)", errno) }
    defer { close(previous) }
    try lock(previous, path: path)
    let end = path.lastIndex(of: "/").map { path[..<$0] + "/" } ?? "."
    return access(String(end), W_OK) == 0
  }

  /// Suffix of a previous trace's name.
  static let previousSuffix = ".old"

  /// Replace the previous file.
  /// - Parameter keepsPrevious: keep it as `.old`.
  mutating func publish(keepsPrevious: Bool = true) throws(TraceError) {
    guard let unpublished else { return }
    let target = TraceFile.resolved(path)
    if keepsPrevious { rename(target, target + TraceFile.previousSuffix) }
    guard rename(unpublished, target) == 0 else { throw TraceError.system("cannot rename \(unpublished)", errno) }
    self.unpublished = nil
  }

  /// Remove a file that was not published.
  /// - Returns: whether there was one.
  mutating func discard() -> Bool {
    guard let unpublished else { return false }
    unlink(unpublished)
    self.unpublished = nil
    return true
  }

  deinit {
    close(descriptor)
    if let unpublished { unlink(unpublished) }
  }

  /// - Parameter isOwnName: the name is not the user's choice, so do not follow a symbolic link.
  private static func openEmpty(_ path: String, isOwnName: Bool = false) throws(TraceError) -> Int32 {
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (isOwnName ? O_NOFOLLOW : 0), 0o600)
    guard descriptor >= 0 else { throw TraceError.system("cannot create \(path)", errno) }
    do throws(TraceError) {
      try lock(descriptor, path: path)
      if isOwnName { try keepCommands(descriptor, path) }
      guard ftruncate(descriptor, 0) == 0 else { throw TraceError.system("cannot write \(path)", errno) }
    } catch {
      close(descriptor)
      throw error
    }
    return descriptor
  }

  /// Refuse to replace a trace that lacks events in existing rings.
  private static func keepFed(_ path: String) throws(TraceError) {
    guard let rings = RecordingDirectory.directory(feeding: path) else { return }
    throw TraceError(
      .system(EEXIST), "\(path) is a killed recording with events left in \(rings.path): run nvmepf repair \(path)")
  }

  /// Refuse to truncate a file that holds commands, or is not a trace.
  private static func keepCommands(_ descriptor: Int32, _ path: String) throws(TraceError) {
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_size > 0 else { return }
    try keepFed(path)
    let isNeeded: Bool
    do throws(TraceError) {
      isNeeded = try TraceScan(descriptor, path).chunks.contains { $0.header.commands > 0 }
    } catch {
      // A file cut off within its header holds nothing to repair.
      isNeeded = if case .damaged = error.kind { false } else { true }
    }
    guard isNeeded else { return }
    throw TraceError(.system(EEXIST), "\(path) would be overwritten: rename or remove it first")
  }

  static func lock(_ descriptor: Int32, path: String) throws(TraceError) {
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      if errno == EWOULDBLOCK {
        throw TraceError(.system(EWOULDBLOCK), "\(path) is being recorded to: stop that recording first")
      }
      // Some network file systems have no locks; then nothing excludes others.
      if errno == ENOSYS || errno == EOPNOTSUPP || errno == ENOLCK { return }
      throw TraceError.system("cannot lock \(path)", errno)
    }
  }

  /// Append all of `bytes`, or nothing.
  mutating func append(_ bytes: UnsafeRawBufferPointer) throws(TraceError) {
    var written = 0
    while written < bytes.count {
      let count = pwrite(
        descriptor, bytes.baseAddress! + written, bytes.count - written, off_t(end) + off_t(written))
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else {
        let error = count < 0 ? errno : ENOSPC
        ftruncate(descriptor, off_t(end))
        throw TraceError.system("\(path)", error)
      }
      written += count
    }
    end += UInt64(bytes.count)
  }

  mutating func append(_ buffer: borrowing ByteBuffer) throws(TraceError) { try append(buffer.bytes) }

  func sync() throws(TraceError) {
    guard fsync(descriptor) == 0 else { throw TraceError.system("\(path)", errno) }
  }

  /// Return the disk blocks between `start` and `end` to the file system; they then read as zeros.
  func punch(_ start: UInt64, _ end: UInt64) throws(TraceError) {
    let error = -nvmepf_punch_hole(descriptor, start, end - start)
    guard error == 0 else {
      throw TraceError.system("\(path): the file system cannot release the oldest chunks of a flight recorder", error)
    }
  }
}

/// Read `count` bytes at `offset`.
/// - Returns: false if the file ends before.
func readFully(_ descriptor: Int32, _ target: UnsafeMutableRawPointer, _ count: Int, at offset: UInt64, path: String)
  throws(TraceError) -> Bool
{
  var done = 0
  while done < count {
    let got = pread(descriptor, target + done, count - done, off_t(offset) + off_t(done))
    if got < 0 && errno == EINTR { continue }
    if got < 0 { throw TraceError.system("cannot read \(path)", errno) }
    if got == 0 { return false }
    done += got
  }
  return true
}
