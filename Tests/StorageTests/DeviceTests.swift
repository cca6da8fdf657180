import CPlatform
import Chance
import Foundation
import Glibc
import NVMe
import TestDisks
import TestSeed
import Testing

@testable import Storage

/// A file of some size in a directory of its own, which goes with it.
final class TemporaryFile {
  let path: String
  private let directory: String

  init(bytes: Int, in parent: String = NSTemporaryDirectory()) throws {
    directory = "\(parent)/nvmepf-storage-\(UUID().uuidString)"
    path = directory + "/namespace"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    try Data().write(to: URL(fileURLWithPath: path))
    #expect(truncate(path, bytes) == 0)
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }
}

/// A queue and a device, and one request after the other.
struct StorageBench: ~Copyable {
  static let bufferBytes = 128 << 10
  var queue: StorageQueue
  let device: StorageDevice

  init(path: String, readOnly: Bool = false, buffered: Bool = false, requests: Int = 64) throws {
    let device = try StorageDevice(path: path, readOnly: readOnly, buffered: buffered)
    let queue = try StorageQueue(requestsMax: requests, bufferBytes: StorageBench.bufferBytes)
    self.device = device
    self.queue = queue
  }

  /// Submit, and wait.
  /// - Parameter fill: put into the buffer first.
  /// - Returns: the status, and the buffer's first bytes.
  mutating func execute(
    _ operation: StorageOperation, _ ranges: [StorageRange], destination: UInt64 = 0, through: Bool = false,
    fill: [UInt8] = []
  ) throws -> (status: Status, bytes: [UInt8]) {
    let allocated = queue.allocate()
    let request = try #require(allocated)
    let buffer = queue.buffer(request)
    fill.withUnsafeBytes { buffer.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(buffer), byteCount: $0.count) }
    ranges.withUnsafeBufferPointer {
      queue.submit(
        request, operation, on: device, ranges: $0, destination: destination, forceUnitAccess: through)
    }
    queue.kick()
    while true {
      guard let done = queue.completion() else {
        queue.kick()
        continue
      }
      #expect(done.request == request)
      let count = operation == .read ? Int(ranges[0].count) : 0
      let bytes = [UInt8](UnsafeRawBufferPointer(start: buffer, count: count))
      queue.release(request)
      return (done.status, bytes)
    }
  }

  mutating func read(_ offset: UInt64, _ count: UInt64) throws -> [UInt8] {
    let (status, bytes) = try execute(.read, [StorageRange(offset: offset, count: count)])
    #expect(status == .success)
    return bytes
  }

  mutating func write(_ offset: UInt64, _ bytes: [UInt8], through: Bool = false) throws -> Status {
    try execute(.write, [StorageRange(offset: offset, count: UInt64(bytes.count))], through: through, fill: bytes)
      .status
  }
}

@Suite("Storage")
struct DeviceTests {
  @Test("data reads back, aligned or not, with and without the page cache", arguments: [false, true])
  func readsBack(buffered: Bool) throws {
    let file = try TemporaryFile(bytes: 1 << 20)
    var bench = try StorageBench(path: file.path, buffered: buffered)
    for (offset, count) in [(0, 4096), (512, 512), (4096, 131072), (8192 + 512, 4096), (1 << 20 - 512, 512)] {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 / 7 + offset) }
      for through in [false, true] {
        #expect(try bench.write(UInt64(offset), bytes, through: through) == .success)
        #expect(try bench.read(UInt64(offset), UInt64(count)) == bytes)
      }
    }
    #expect(try bench.execute(.flush, []).status == .success)
  }

  @Test("a comparison finds the one byte that differs")
  func compares() throws {
    let file = try TemporaryFile(bytes: 1 << 20)
    var bench = try StorageBench(path: file.path)
    var bytes = [UInt8](repeating: 5, count: 8192)
    #expect(try bench.write(4096, bytes) == .success)
    let range = [StorageRange(offset: 4096, count: 8192)]
    #expect(try bench.execute(.compare, range, fill: bytes).status == .success)
    bytes[8191] = 6
    #expect(try bench.execute(.compare, range, fill: bytes).status.code == Status.compareFailure.code)
  }

  @Test(
    "zeroed and deallocated ranges read as zeros, data between them is kept",
    // A file system in memory cannot zero a range: zeros are written.
    arguments: [StorageOperation.writeZeroes, .zeroAndDeallocate, .deallocate], [NSTemporaryDirectory(), "/dev/shm"])
  func zeroes(operation: StorageOperation, directory: String) throws {
    let file = try TemporaryFile(bytes: 4 << 20, in: directory)
    var bench = try StorageBench(path: file.path)
    let ones = [UInt8](repeating: 1, count: StorageBench.bufferBytes)
    for place in 0..<8 { #expect(try bench.write(UInt64(place * ones.count), ones) == .success) }
    let ranges = [StorageRange(offset: 512, count: 512), StorageRange(offset: 131072, count: 500 << 10)]
    for through in [false, true] {
      #expect(try bench.execute(operation, ranges, through: through).status == .success)
    }
    #expect(
      try bench.read(0, 2048) == [UInt8](repeating: 1, count: 512) + [UInt8](repeating: 0, count: 512) + ones[..<1024])
    #expect(try bench.read(131072 + 500 << 10 - 1024, 1024).allSatisfy { $0 == 0 })
    #expect(try bench.read(131072 + 500 << 10, 1024).allSatisfy { $0 == 1 })
  }

  @Test("a copy reads its sources in order, even if longer than a buffer")
  func copies() throws {
    let file = try TemporaryFile(bytes: 4 << 20)
    var bench = try StorageBench(path: file.path)
    for place in 0..<8 {
      let bytes = [UInt8](repeating: UInt8(place + 1), count: StorageBench.bufferBytes)
      #expect(try bench.write(UInt64(place * bytes.count), bytes) == .success)
    }
    let sources = [StorageRange(offset: 2 * 131072, count: 512), StorageRange(offset: 0, count: 300 << 10)]
    #expect(try bench.execute(.copy, sources, destination: 2 << 20, through: true).status == .success)
    #expect(try bench.read(2 << 20, 1024) == [UInt8](repeating: 3, count: 512) + [UInt8](repeating: 1, count: 512))
    #expect(try bench.read(2 << 20 + 512 + 262144, 512).allSatisfy { $0 == 3 })
  }

  @Test("a truncated file is an unrecovered read error, also for Verify")
  func findsTruncation() throws {
    let file = try TemporaryFile(bytes: 1 << 20)
    var bench = try StorageBench(path: file.path)
    #expect(try bench.execute(.verify, [StorageRange(offset: 0, count: 1 << 20)]).status == .success)
    #expect(truncate(file.path, 4096) == 0)
    for operation in [StorageOperation.read, .verify] {
      let (status, _) = try bench.execute(operation, [StorageRange(offset: 8192, count: 4096)])
      #expect(status.code == Status.unrecoveredReadError.code)
    }
  }

  @Test("a file that cannot be opened is reported with the reason")
  func refuses() throws {
    for (path, text) in [
      ("/nowhere/file", "No such file"), ("/", "is not storage"), ("/dev/null", "is not storage"),
    ] {
      do {
        _ = try StorageDevice(path: path)
        Issue.record("\(path) was opened")
      } catch { #expect(error.description.contains(text), "\(error)") }
    }
    for (path, isHinted) in [("/nowhere/file", true), ("/dev/sdx-typo", false), ("/proc/none", false)] {
      let error = #expect(throws: StorageError.self) { _ = try StorageDevice(path: path) }
      #expect(error?.description.contains("makes one") == isHinted, "\(path)")
    }
    let empty = try TemporaryFile(bytes: 0)
    #expect(throws: StorageError.self) { _ = try StorageDevice(path: empty.path) }
    let file = try TemporaryFile(bytes: 4096)
    let first = try StorageDevice(path: file.path)
    #expect(throws: StorageError.self) { _ = try StorageDevice(path: file.path) }
    #expect(!first.isReadOnly)
  }

  @Test("refuses a file that is not storage before opening it, which could block or have effects")
  func refusesBeforeOpening() throws {
    let file = try TemporaryFile(bytes: 4096)
    let fifo = file.path + ".fifo"
    defer { unlink(fifo) }
    #expect(mkfifo(fifo, 0o600) == 0)
    for path in [fifo, "/dev/tty", "/dev/zero", "/proc/version", "/sys/kernel/uevent_seqnum"] {
      for readOnly in [false, true] {
        let refusal = #expect(throws: StorageError.self) { _ = try StorageDevice(path: path, readOnly: readOnly) }
        #expect(refusal?.description.contains("\(path) is not storage") == true)
      }
    }
  }

  @Test("operations on a file system that may block go to the kernel's threads, others stay with the submitter")
  func knowsWhatBlocks() throws {
    let known = nvmepf_memfd("test")
    defer { close(known) }
    #expect(nvmepf_never_blocks(known))
    // An interface of the kernel stands for every file system that is not known.
    let unknown = open("/proc/version", O_RDONLY)
    defer { close(unknown) }
    #expect(!nvmepf_never_blocks(unknown))
  }

  @Test("a device opened for reading refuses writes")
  func isReadOnly() throws {
    let file = try TemporaryFile(bytes: 1 << 20)
    var bench = try StorageBench(path: file.path, readOnly: true)
    #expect(bench.device.isReadOnly)
    let status = try bench.write(0, [UInt8](repeating: 1, count: 512))
    #expect(status.code == Status.namespaceIsWriteProtected.code)
    #expect(try bench.read(0, 512).allSatisfy { $0 == 0 })
  }

  @Test("a full disk is a capacity exceeded")
  func isFull() throws {
    guard let small = MountedFileSystem("tmpfs", "size=64k") else {
      return print("NOT RUN: a full disk needs the privilege to mount a small file system")
    }
    let file = try TemporaryFile(bytes: 1 << 20, in: small.path)
    var bench = try StorageBench(path: file.path)
    var last = Status.success
    for place in 0..<8 where last == .success {
      last = try bench.write(UInt64(place) << 17, [UInt8](repeating: 1, count: 1 << 17))
    }
    #expect(last.code == Status.capacityExceeded.code)
  }

  @Test("an abandoned request never completes, and its slot is reused")
  func abandons() throws {
    let file = try TemporaryFile(bytes: 1 << 20)
    var bench = try StorageBench(path: file.path, requests: 4)
    let range = [StorageRange(offset: 0, count: 131072)]
    for round in 0..<100 {
      var abandoned: [Int32] = []
      while let request = bench.queue.allocate() {
        range.withUnsafeBufferPointer {
          bench.queue.submit(request, round % 2 == 0 ? .read : .verify, on: bench.device, ranges: $0)
        }
        abandoned.append(request)
      }
      bench.queue.kick()
      for request in abandoned { bench.queue.abandon(request) }
      var free: [Int32] = []
      while free.count < 4 {
        #expect(bench.queue.completion() == nil)
        while let request = bench.queue.allocate() { free.append(request) }
      }
      for request in free { bench.queue.release(request) }
    }
    #expect(try bench.read(0, 512).count == 512)
  }

  @Test("many parallel operations of every kind agree with a model of the blocks")
  func agreesWithModel() throws {
    let file = try TemporaryFile(bytes: 8 << 20)
    var model = try ModelOfStorage(path: file.path, random: drawnNumbers("storage model"))
    try model.run(rounds: 3000)
  }

  @Test("the same on a block device, if one can be made")
  func worksOnBlockDevice() throws {
    let file = try TemporaryFile(bytes: 8 << 20)
    guard let loop = LoopDevice(file.path) else {
      return print("NOT RUN: a block device needs the privilege to set up a loop device")
    }
    var model = try ModelOfStorage(path: loop.path, random: SeededGenerator(seed: 7))
    try model.run(rounds: 500)
  }
}

/// Lanes of blocks, one request in each at a time, against what each block must hold.
struct ModelOfStorage: ~Copyable {
  private static let lanes = 16
  private static let blockBytes = 512
  private var bench: StorageBench
  private var random: SeededGenerator
  private let laneBlocks: Int
  private var model: [UInt8]

  init(path: String, random: SeededGenerator) throws {
    bench = try StorageBench(path: path)
    self.random = random
    let blocks = Int(bench.device.bytes) / ModelOfStorage.blockBytes
    laneBlocks = blocks / ModelOfStorage.lanes
    model = [UInt8](repeating: 0, count: blocks)
  }

  mutating func run(rounds: Int) throws {
    for _ in 0..<rounds {
      var expected: [Int32: (operation: StorageOperation, blocks: [UInt8])] = [:]
      for lane in 0..<ModelOfStorage.lanes {
        let allocated = bench.queue.allocate()
        let request = try #require(allocated)
        expected[request] = begin(request, lane)
      }
      bench.queue.kick()
      while !expected.isEmpty {
        guard let done = bench.queue.completion() else {
          bench.queue.kick()
          continue
        }
        let found = expected.removeValue(forKey: done.request)
        let (operation, blocks) = try #require(found)
        #expect(done.status == .success, "\(operation)")
        if operation == .read { check(done.request, blocks) }
        bench.queue.release(done.request)
      }
    }
  }

  private func check(_ request: Int32, _ blocks: [UInt8]) {
    for (index, value) in blocks.enumerated() {
      let block = UnsafeRawBufferPointer(
        start: bench.queue.buffer(request) + index * ModelOfStorage.blockBytes, count: ModelOfStorage.blockBytes)
      #expect(block.first == value && block.last == value)
    }
  }

  private mutating func begin(_ request: Int32, _ lane: Int) -> (StorageOperation, [UInt8]) {
    let all: [StorageOperation] = [
      .read, .read, .write, .write, .compare, .writeZeroes, .zeroAndDeallocate, .deallocate, .copy, .verify, .flush,
    ]
    let operation = all.randomElement(using: &random)!
    let half = laneBlocks / 2
    let first = lane * laneBlocks
    let count = 1 + Int(random.next() % 64)
    let begin = first + Int(random.next() % UInt64(half - 64))
    let range = begin..<(begin + count)
    var destination = 0
    switch operation {
    case .write:
      let value = UInt8(truncatingIfNeeded: random.next())
      for block in range { model[block] = value }
    case .writeZeroes, .zeroAndDeallocate, .deallocate: for block in range { model[block] = 0 }
    case .copy:
      destination = first + half + Int(random.next() % UInt64(half - 64))
      for block in 0..<count { model[destination + block] = model[begin + block] }
    default: break
    }
    let values = Array(model[range])
    if operation == .write || operation == .compare {
      for (index, value) in values.enumerated() {
        memset(bench.queue.buffer(request) + index * ModelOfStorage.blockBytes, Int32(value), ModelOfStorage.blockBytes)
      }
    }
    let bytes = UInt64(ModelOfStorage.blockBytes)
    let ranges = operation == .flush ? [] : [StorageRange(offset: UInt64(begin) * bytes, count: UInt64(count) * bytes)]
    ranges.withUnsafeBufferPointer {
      bench.queue.submit(
        request, operation, on: bench.device, ranges: $0, destination: UInt64(destination) * bytes,
        forceUnitAccess: random.next() % 8 == 0)
    }
    return (operation, values)
  }
}
