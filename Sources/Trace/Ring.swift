import CPlatform
import Events
import Glibc
import Synchronization

/// A ring of records in a shared memory file: one producer, one consumer; the file outlives both.
///
/// The first page is the header, followed by `capacity` slots of 32 bytes. The slots are mapped twice in a row, so that
/// a record and its tail are contiguous wherever they begin. If the producer is killed, its events stay in the file;
/// the consumer frees slots only when their content is safe in the trace. So no event is lost in between.
public final class Ring: @unchecked Sendable {
  public static let magic: UInt64 = 0x676e_6972_7470_766e  // "nvptring"
  public static let version: UInt32 = 1
  static let headerSize = 4096
  static let slotsMax: UInt64 = 1 << 26

  public let path: String
  public let source: Source
  /// The stream of the trace for these records.
  public let stream: UInt16
  public let traceID: TraceID
  /// The stream number assigned by the recorder, if another ring already had this one's number.
  var recordedStream: UInt16? {
    get {
      let stored = header.load(fromByteOffset: Offset.recordedStream, as: UInt32.self)
      return stored == 0 ? nil : UInt16(truncatingIfNeeded: stored &- 1)
    }
    set {
      header.storeBytes(
        of: newValue.map { UInt32($0) + 1 } ?? 0, toByteOffset: Offset.recordedStream, as: UInt32.self)
    }
  }
  /// Slots; a power of two.
  public let capacity: UInt64

  let header: UnsafeMutableRawPointer
  let slots: UnsafeMutablePointer<Record>

  /// Offsets in the header. The counters of producer and consumer are in separate cache lines.
  enum Offset {
    static let magic = 0
    static let version = 8
    static let source = 12
    static let stream = 14
    static let capacity = 16
    static let traceID = 24
    static let closed = 40
    static let recordedStream = 48
    static let head = 64
    static let tail = 128
  }

  /// Slots ever written; owned by the producer.
  var head: UnsafeMutablePointer<Atomic<UInt64>> { counter(Offset.head) }
  /// Slots ever freed; owned by the consumer.
  var tail: UnsafeMutablePointer<Atomic<UInt64>> { counter(Offset.tail) }
  private var closed: UnsafeMutablePointer<Atomic<UInt64>> { counter(Offset.closed) }

  private func counter(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    (header + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  /// Create the file at `path` with room for `capacity` slots. The name appears only when the file is complete.
  public init(creating path: String, capacity: UInt64, source: Source, stream: UInt16, traceID: TraceID)
    throws(TraceError)
  {
    precondition(capacity.nonzeroBitCount == 1 && capacity >= 128 && capacity <= Ring.slotsMax)
    let unfinished = path + ".new"
    let descriptor = open(unfinished, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw TraceError.system("cannot create the ring \(path)", errno) }
    defer { close(descriptor) }
    Ring.giveToFoldersOwner(descriptor, path)
    // Allocate now: a full tmpfs must be an error here, not a SIGBUS while recording.
    let error = posix_fallocate(descriptor, 0, off_t(Ring.headerSize) + off_t(capacity) * off_t(Record.size))
    guard error == 0 else {
      remove(unfinished)
      throw TraceError.system("no room for the ring \(path)", error)
    }
    (header, slots) = try Ring.map(descriptor, capacity: capacity, path: path)
    (self.path, self.capacity, self.source, self.stream, self.traceID) = (path, capacity, source, stream, traceID)
    header.storeBytes(of: Ring.magic, toByteOffset: Offset.magic, as: UInt64.self)
    header.storeBytes(of: Ring.version, toByteOffset: Offset.version, as: UInt32.self)
    header.storeBytes(of: UInt16(source.rawValue), toByteOffset: Offset.source, as: UInt16.self)
    header.storeBytes(of: stream, toByteOffset: Offset.stream, as: UInt16.self)
    header.storeBytes(of: capacity, toByteOffset: Offset.capacity, as: UInt64.self)
    header.storeBytes(of: traceID.high, toByteOffset: Offset.traceID, as: UInt64.self)
    header.storeBytes(of: traceID.low, toByteOffset: Offset.traceID + 8, as: UInt64.self)
    guard rename(unfinished, path) == 0 else {
      let error = errno
      remove(unfinished)
      throw TraceError.system("cannot create the ring \(path)", error)
    }
  }

  /// A host under sudo is root, while the recorder that reads its ring runs as the ordinary user who owns the
  /// directory.
  private static func giveToFoldersOwner(_ descriptor: Int32, _ path: String) {
    var folder = stat()
    guard geteuid() == 0, let slash = path.lastIndex(of: "/"), stat(String(path[..<slash]), &folder) == 0,
      folder.st_uid != 0
    else { return }
    _ = fchown(descriptor, folder.st_uid, folder.st_gid)
  }

  /// Open a ring of another process. Its content is untrusted.
  /// - Parameter leavingItAlone: freeing slots in this process does not change the file, for the next reader.
  public init(opening path: String, leavingItAlone: Bool = false) throws(TraceError) {
    let descriptor = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0 else { throw TraceError.system("cannot open the ring \(path)", errno) }
    defer { close(descriptor) }
    var page = [UInt64](repeating: 0, count: 8)
    guard pread(descriptor, &page, 64, 0) == 64, page[0] == Ring.magic, page[1] & 0xffff_ffff == UInt64(Ring.version),
      let source = Source(rawValue: UInt8(truncatingIfNeeded: page[1] >> 32))
    else { throw TraceError(.damaged, "\(path) is not a ring of nvmepf") }
    let capacity = page[2]
    var status = stat()
    guard capacity.nonzeroBitCount == 1, capacity >= 128, capacity <= Ring.slotsMax, fstat(descriptor, &status) == 0,
      status.st_size == off_t(Ring.headerSize) + off_t(capacity) * off_t(Record.size)
    else { throw TraceError(.damaged, "the ring \(path) has an inconsistent length") }
    let sharing = leavingItAlone ? MAP_PRIVATE : MAP_SHARED
    (header, slots) = try Ring.map(descriptor, capacity: capacity, path: path, sharing)
    (self.path, self.capacity, self.source) = (path, capacity, source)
    stream = UInt16(truncatingIfNeeded: page[1] >> 48)
    traceID = TraceID(high: page[3], low: page[4])
  }

  deinit {
    munmap(header, Ring.headerSize)
    munmap(slots, 2 * Int(capacity) * Record.size)
  }

  private static func map(_ descriptor: Int32, capacity: UInt64, path: String, _ sharing: Int32 = MAP_SHARED)
    throws(TraceError) -> (UnsafeMutableRawPointer, UnsafeMutablePointer<Record>)
  {
    let length = Int(capacity) * Record.size
    let access = PROT_READ | PROT_WRITE
    guard let header = mmap(nil, headerSize, access, sharing, descriptor, 0), header != MAP_FAILED,
      let room = mmap(nil, 2 * length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), room != MAP_FAILED,
      mmap(room, length, access, sharing | MAP_FIXED, descriptor, off_t(headerSize)) != MAP_FAILED,
      mmap(room + length, length, access, sharing | MAP_FIXED, descriptor, off_t(headerSize)) != MAP_FAILED
    else { throw TraceError.system("cannot map the ring \(path)", errno) }
    return (header, room.assumingMemoryBound(to: Record.self))
  }

  /// The producer has finished writing.
  public func finish() { closed.pointee.store(1, ordering: .releasing) }
  public var isClosed: Bool { closed.pointee.load(ordering: .acquiring) != 0 }

  /// Nobody consumes events any more: the file was removed, or the recorder that held the lock beside it has ended.
  var isAbandoned: Bool {
    if access(path, F_OK) != 0, errno == ENOENT { return true }
    return DirectoryLock.isFree(in: path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ".")
  }

  /// Remove the file; existing mappings stay valid.
  public func removeFile() { unlink(path) }
}
