import CPlatform
import Glibc

/// A file that grows at its end by whole pieces: a piece that does not fit leaves no trace.
struct TraceFile: ~Copyable {
  var path: String
  let descriptor: Int32
  /// Where the file is until it is published.
  private var unpublished: String?
  /// Bytes that are whole.
  private(set) var end: UInt64 = 0

  /// Create the file, or empty the one that is there, and lock it against a second writer and a repair.
  init(creating path: String) throws(TraceError) {
    descriptor = try TraceFile.openEmpty(path)
    self.path = path
  }

  /// What the name of a trace ends with until it has a command.
  static let unpublishedSuffix = ".part"

  /// Create the file beside the one that is there, which stays until `publish`.
  init(replacing path: String) throws(TraceError) {
    let isReplaceable = try TraceFile.isReplaceable(path)
    let place = isReplaceable ? path + TraceFile.unpublishedSuffix : path
    descriptor = try TraceFile.openEmpty(place)
    self.path = path
    unpublished = isReplaceable ? place : nil
  }

  /// Whether a regular file is at `path`, which nobody records to and which could be written. Nothing else has a
  /// predecessor to keep: a device, a pipe, a link, a new file.
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

  /// Take the place of the file that was there, which is kept as `.old`.
  mutating func publish() throws(TraceError) {
    guard let unpublished else { return }
    rename(path, path + ".old")
    guard rename(unpublished, path) == 0 else { throw TraceError.system("cannot rename \(unpublished)", errno) }
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

  deinit { close(descriptor) }

  private static func openEmpty(_ path: String) throws(TraceError) -> Int32 {
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw TraceError.system("cannot create \(path)", errno) }
    do throws(TraceError) {
      try lock(descriptor, path: path)
      guard ftruncate(descriptor, 0) == 0 else { throw TraceError.system("cannot write \(path)", errno) }
    } catch {
      close(descriptor)
      throw error
    }
    return descriptor
  }

  static func lock(_ descriptor: Int32, path: String) throws(TraceError) {
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      if errno == EWOULDBLOCK {
        throw TraceError(.system(EWOULDBLOCK), "\(path) is being recorded to: stop that recording first")
      }
      // Some network file systems have no locks: then nobody can be kept out.
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

  /// Give the disk its blocks between `start` and `end` back; they read as zeros.
  func punch(_ start: UInt64, _ end: UInt64) throws(TraceError) {
    let error = -nvmepf_punch_hole(descriptor, start, end - start)
    guard error == 0 else {
      throw TraceError.system("\(path): the file system cannot give up the oldest of a flight recorder", error)
    }
  }
}

/// Read `count` bytes at `offset`.
/// - Returns: false when the file ends before.
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
