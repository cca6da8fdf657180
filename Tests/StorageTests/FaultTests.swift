import Foundation
import Glibc
import NVMe
import TestDisks
import Testing

@testable import Storage

@Suite("Storage with faults or missing operations")
struct FaultTests {
  private static let block = [UInt8](repeating: 1, count: 4096)

  /// Whether everything that promises durability is refused, and nothing else.
  private func expectLost(_ bench: inout StorageBench) throws {
    for _ in 0..<2 {
      #expect(try bench.execute(.flush, []).status.code == Status.writeFault.code)
      #expect(try bench.write(0, FaultTests.block, through: true).code == Status.writeFault.code)
      let range = [StorageRange(offset: 0, count: 4096)]
      #expect(try bench.execute(.read, range, through: true).status.code == Status.writeFault.code)
      #expect(try bench.execute(.writeZeroes, range, through: true).status.code == Status.writeFault.code)
    }
    #expect(try bench.read(0, 4096).count == 4096)
  }

  @Test("after a failed sync every flush and forced access fails until the device is reopened")
  func remembers() throws {
    let file = try TemporaryFile(bytes: 1 << 20)
    do {
      var bench = try StorageBench(path: file.path)
      #expect(try bench.execute(.flush, []).status == .success)
      #expect(bench.device.settleSync(-EINTR) == -EINTR)
      #expect(bench.device.settleSync(0) == 0)
      #expect(bench.device.settleSync(-ENOSPC) == -ENOSPC)
      #expect(bench.device.settleSync(0) == -EIO)
      try expectLost(&bench)
      #expect(try bench.write(0, FaultTests.block) == .success)
    }
    var again = try StorageBench(path: file.path)
    #expect(try again.execute(.flush, []).status == .success)
  }

  @Test("a write-back error is reported to whoever flushes first")
  func losesData() throws {
    guard let small = MountedFileSystem("tmpfs", "size=64k") else {
      return print("NOT RUN: a disk that loses data needs the privilege to mount")
    }
    // Its disk has blocks, and no room for any.
    let file = try TemporaryFile(bytes: 1 << 20, in: small.path)
    try Data(count: 64 << 10).write(to: URL(fileURLWithPath: small.path + "/rest"))
    guard let loop = LoopDevice(file.path) else {
      return print("NOT RUN: a disk that loses data needs the privilege to set up a loop device")
    }
    for asksByFlush in [true, false] {
      var bench = try StorageBench(path: loop.path)
      #expect(try bench.write(4096 + 512, FaultTests.block) == .success)
      let first =
        asksByFlush
        ? try bench.execute(.flush, []).status : try bench.write(512, [UInt8](repeating: 2, count: 512), through: true)
      #expect(!first.isSuccess)
      try expectLost(&bench)
    }
  }

  @Test(
    "without deallocation, deallocated blocks keep their data and zeros are written",
    arguments: [false, true])
  func cannotDeallocate(isBlockDevice: Bool) throws {
    // A file system without fallocate.
    guard let simple = MountedFileSystem("ramfs") else {
      return print("NOT RUN: a file system without holes needs the privilege to mount")
    }
    let file = try TemporaryFile(bytes: 1 << 20, in: simple.path)
    let loop = isBlockDevice ? LoopDevice(file.path) : nil
    guard loop != nil || !isBlockDevice else {
      return print("NOT RUN: a block device needs the privilege to set up a loop device")
    }
    var bench = try StorageBench(path: loop?.path ?? file.path)
    #expect(try bench.write(0, [UInt8](repeating: 1, count: 32768)) == .success)
    #expect(try bench.execute(.deallocate, [StorageRange(offset: 0, count: 32768)]).status == .success)
    #expect(try bench.read(0, 32768).allSatisfy { $0 == 1 })
    for (place, operation) in [StorageOperation.writeZeroes, .zeroAndDeallocate].enumerated() {
      let range = StorageRange(offset: UInt64(place) * 8192 + 512, count: 4096)
      #expect(try bench.execute(operation, [range]).status == .success)
      #expect(try bench.read(range.offset, range.count).allSatisfy { $0 == 0 })
      #expect(try bench.read(range.offset + range.count, 512).allSatisfy { $0 == 1 })
    }
  }

  @Test("every flush syncs, and every forced write goes through or is followed by a sync")
  func syncs() throws {
    let file = try TemporaryFile(bytes: 1 << 20)
    var bench = try StorageBench(path: file.path)
    #expect(try bench.write(0, FaultTests.block) == .success)
    #expect(bench.queue.syncs == 0 && bench.queue.writesThrough == 0)
    #expect(try bench.execute(.flush, []).status == .success)
    #expect(bench.queue.syncs == 1)
    #expect(try bench.write(0, FaultTests.block, through: true) == .success)
    let isDirect = bench.device.isDirect
    #expect(bench.queue.syncs == (isDirect ? 1 : 2) && bench.queue.writesThrough == (isDirect ? 1 : 0))
    let before = bench.queue.syncs
    #expect(try bench.write(512, [1, 2, 3, 4], through: true) == .success)
    let range = [StorageRange(offset: 0, count: 4096)]
    for operation in [StorageOperation.read, .writeZeroes, .deallocate, .copy] {
      #expect(try bench.execute(operation, range, destination: 8192, through: true).status == .success)
    }
    #expect(bench.queue.syncs == before + 5)
  }
}
