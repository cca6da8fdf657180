import Glibc
import Platform
import Synchronization

/// The zeroed memory of a namespace, in huge pages if the kernel provides them.
final class NamespaceMemory: @unchecked Sendable {
  let base: UnsafeMutableRawPointer
  let count: Int

  /// Size of a huge page, if the kernel has any.
  static let hugePageBytes = 2 << 20

  /// Memory that is allocated only when it is touched.
  init(bytes: UInt64) throws(EndpointError) {
    let spare = NamespaceMemory.hugePageBytes
    guard bytes > 0, let count = Int(exactly: bytes), count <= Int.max - spare else {
      throw EndpointError(description: "a namespace of \(bytes) bytes is not possible")
    }
    let flags = Int32(MAP_PRIVATE) | Int32(MAP_ANONYMOUS) | Int32(MAP_NORESERVE)
    guard let room = mmap(nil, count + spare, PROT_READ | PROT_WRITE, flags, -1, 0), room != MAP_FAILED else {
      throw EndpointError(description: "no room for \(bytes) bytes of namespace: \(String(cString: strerror(errno)))")
    }
    // Only memory aligned to a huge page can use huge pages.
    let lead = -Int(bitPattern: room) & (spare - 1)
    if lead > 0 { munmap(room, lead) }
    base = room + lead
    self.count = count
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let end = (count + page - 1) & ~(page - 1)
    munmap(base + end, count + spare - lead - end)
    madvise(base, count, Int32(MADV_HUGEPAGE))
  }

  deinit { munmap(base, count) }

  // MARK: Touching it beforehand

  /// Bytes that a thread touches between two checks for an interruption.
  private static let pieceBytes = 64 << 20
  private static let threadsMax = 8

  /// Allocate all of the memory now, so that no command waits for page faults.
  /// - Parameters:
  ///   - progress: called once a second.
  ///   - isInterrupted: polled, on any thread.
  /// - Returns: false if it was interrupted.
  /// - Throws: if there is not enough memory, or a control group does not permit it.
  func prefault(
    isInterrupted: @escaping @Sendable () -> Bool = { false }, progress: (_ done: Int, _ total: Int) -> Void
  ) throws(EndpointError) -> Bool {
    if let available = NamespaceMemory.availableBytes(), UInt64(count) > available {
      throw EndpointError(
        description: "a namespace of \(count >> 20) MiB in memory does not fit: \(available >> 20) MiB are available; "
          + "choose a smaller size, or --no-prefault to allocate memory only when it is written")
    }
    if let limit = MemoryLimit.tightest(), UInt64(count) > limit.availableBytes {
      throw EndpointError(
        description: "a namespace of \(count >> 20) MiB in memory does not fit: the control group \(limit.group) "
          + "leaves \(limit.availableBytes >> 20) MiB; choose a smaller size, raise the group's limit, or --no-prefault to "
          + "take memory only as it is written")
    }
    let threads = max(1, min(NamespaceMemory.threadsMax, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
    let work = Work(pieces: (count + NamespaceMemory.pieceBytes - 1) / NamespaceMemory.pieceBytes)
    let workers = (0..<threads).compactMap { _ in
      try? WorkerThread(name: "nvmepf-prefault") { [self] in touchPieces(work, isInterrupted) }
    }
    if workers.isEmpty { touchPieces(work, isInterrupted) }
    while !work.isDone {
      if work.waitForProgress(milliseconds: 1000) { continue }
      progress(min(count, work.touched * NamespaceMemory.pieceBytes), count)
    }
    for worker in workers { worker.join() }
    return !work.isInterrupted
  }

  /// State shared by the threads.
  private final class Work: Sendable {
    let pieces: Int
    private let next = Atomic<Int>(0)
    private let finished = Atomic<Int>(0)
    private let interrupted = Atomic<Bool>(false)
    private let end = Signal()

    init(pieces: Int) { self.pieces = pieces }

    var touched: Int { finished.load(ordering: .acquiring) }
    var isInterrupted: Bool { interrupted.load(ordering: .acquiring) }
    var isDone: Bool { isInterrupted || touched == pieces }

    func nextPiece() -> Int? {
      let piece = next.wrappingAdd(1, ordering: .relaxed).oldValue
      return piece < pieces && !isInterrupted ? piece : nil
    }

    func finish() {
      if finished.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue == pieces { end.raise() }
    }

    func interrupt() {
      interrupted.store(true, ordering: .releasing)
      end.raise()
    }

    /// - Returns: whether everything is done.
    func waitForProgress(milliseconds: Int) -> Bool { end.wait(milliseconds: milliseconds) }
  }

  private func touchPieces(_ work: Work, _ isInterrupted: () -> Bool) {
    while let piece = work.nextPiece() {
      let offset = piece * NamespaceMemory.pieceBytes
      touch(base + offset, min(NamespaceMemory.pieceBytes, count - offset))
      work.finish()
      if isInterrupted() { return work.interrupt() }
    }
  }

  /// MADV_POPULATE_WRITE, of Linux 5.14 and later.
  private static let populateWrite: Int32 = 23

  private func touch(_ start: UnsafeMutableRawPointer, _ bytes: Int) {
    guard madvise(start, bytes, NamespaceMemory.populateWrite) != 0 else { return }
    for offset in stride(from: 0, to: bytes, by: 4096) { start.storeBytes(of: 0, toByteOffset: offset, as: UInt8.self) }
  }

  /// Memory available without swapping (proc(5), MemAvailable); nil if unknown.
  private static func availableBytes() -> UInt64? {
    MemoryLimit.value(of: "MemAvailable:", in: readText("/proc/meminfo") ?? "").map { $0 << 10 }
  }
}
