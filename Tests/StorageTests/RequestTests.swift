import Glibc
import NVMe
import Testing

@testable import Storage

/// A request whose operations the test completes as the kernel or a device might.
struct RequestBench: ~Copyable {
  static let bufferBytes = 64 << 10
  var request: StorageRequest
  var access: StorageAccess
  private let ranges: UnsafeMutablePointer<StorageRange>
  let buffer: UnsafeMutableRawBufferPointer

  init(
    _ operation: StorageOperation, _ all: [StorageRange], destination: UInt64 = 0, through: Bool = false,
    _ access: StorageAccess
  ) {
    self.access = access
    ranges = .allocate(capacity: max(all.count, 1))
    for (index, range) in all.enumerated() { (ranges + index).initialize(to: range) }
    buffer = .allocate(byteCount: RequestBench.bufferBytes, alignment: 4096)
    buffer.initializeMemory(as: UInt8.self, repeating: 0xff)
    request = StorageRequest(
      operation: operation, device: nil, rangeCount: all.count, destination: destination, forcesUnitAccess: through)
  }

  deinit {
    ranges.deallocate()
    buffer.deallocate()
  }

  mutating func next() -> StorageStep {
    request.nextStep(ranges, bufferBytes: UInt64(RequestBench.bufferBytes), access)
  }

  /// The operation ends with bytes or an errno.
  mutating func finishStep(_ result: Int32) { request.finishStep(result, ranges, buffer, nil) }

  /// The operation ends with a status of the device.
  mutating func finishStep(_ status: Status) { request.finishStep(status: status, ranges, buffer, nil) }

  /// Everything goes well from here on.
  /// - Returns: the steps that it takes.
  mutating func finish() -> [StorageStep] {
    var steps: [StorageStep] = []
    while !request.isDone {
      steps.append(next())
      if access.isPassedThrough { finishStep(.success) } else { finishStep(steps.last!.count) }
    }
    return steps
  }
}

extension StorageStep {
  /// What the kernel returns where it has done all of it.
  var count: Int32 {
    switch self {
    case .read(_, let count, _), .write(_, let count, _, _): Int32(count)
    case .zero, .deallocate, .sync: 0
    }
  }
}

extension StorageAccess {
  static var direct: StorageAccess {
    var access = StorageAccess()
    access.isDirect = true
    return access
  }

  /// An NVMe device with blocks of 4096 bytes.
  static var passedThrough: StorageAccess {
    var identity = [UInt8](repeating: 0, count: 4096)
    identity[130] = 12
    return StorageAccess(NVMeFormat(identity), NVMeLimits(controller: nil, commandSet: nil))
  }
}

@Suite("Steps of a request")
struct RequestTests {
  private static let range = StorageRange(offset: 8192, count: 16384)

  @Test("a partial read or write continues where it stopped", arguments: [StorageOperation.read, .write])
  func goesOn(operation: StorageOperation) {
    var bench = RequestBench(operation, [RequestTests.range], .direct)
    for (done, result) in [(0, 4096), (4096, 100), (4196, 12187)] as [(UInt64, Int32)] {
      let (offset, count, isDirect) = (8192 + done, 16384 - done, done % 4096 == 0)
      let reads = StorageStep.read(offset: offset, count: count, isDirect: isDirect)
      let writes = StorageStep.write(offset: offset, count: count, isDirect: isDirect, isThrough: false)
      #expect(bench.next() == (operation == .read ? reads : writes))
      #expect(bench.request.bufferOffset == done)
      bench.finishStep(result)
    }
    #expect(!bench.request.isDone)
    _ = bench.next()
    bench.finishStep(1)
    #expect(bench.request.isDone && bench.request.status == .success)
  }

  @Test("a read that ends early and a write of nothing are errors")
  func endsEarly() {
    var read = RequestBench(.read, [RequestTests.range], .direct)
    _ = read.next()
    read.finishStep(4096)
    _ = read.next()
    read.finishStep(0)
    #expect(read.request.isDone && read.request.status.code == Status.unrecoveredReadError.code)
    var write = RequestBench(.write, [RequestTests.range], .direct)
    _ = write.next()
    write.finishStep(0)
    #expect(write.request.isDone && write.request.status.code == Status.writeFault.code)
  }

  @Test(
    "an interrupted operation is retried",
    arguments: [EINTR, EAGAIN],
    [StorageOperation.read, .write, .compare, .verify, .writeZeroes, .zeroAndDeallocate, .deallocate, .copy, .flush])
  func triesAgain(error: Int32, operation: StorageOperation) {
    var bench = RequestBench(operation, [RequestTests.range], destination: 1 << 20, through: true, .direct)
    while !bench.request.isDone {
      let step = bench.next()
      bench.finishStep(-error)
      #expect(!bench.request.isDone)
      #expect(bench.next() == step)
      bench.finishStep(step.count)
    }
    #expect(bench.request.status == .success)
  }

  @Test("an operation that cannot use direct I/O uses the page cache and still becomes durable")
  func avoidsDirect() {
    var bench = RequestBench(.write, [RequestTests.range], through: true, .direct)
    #expect(bench.next() == .write(offset: 8192, count: 16384, isDirect: true, isThrough: true))
    bench.finishStep(-EINVAL)
    #expect(
      bench.finish() == [
        .write(offset: 8192, count: 16384, isDirect: false, isThrough: false), .sync(offset: 8192, count: 16384),
      ])
    #expect(bench.request.status == .success)
    var refused = RequestBench(.read, [RequestTests.range], .direct)
    _ = refused.next()
    refused.finishStep(-EINVAL)
    _ = refused.next()
    refused.finishStep(-EINVAL)
    #expect(refused.request.isDone && refused.request.status.code == Status.unrecoveredReadError.code)
  }

  @Test("Force Unit Access: an aligned write goes to the medium, any other change is synced at its end")
  func forces() {
    var aligned = RequestBench(.write, [RequestTests.range], through: true, .direct)
    #expect(aligned.finish() == [.write(offset: 8192, count: 16384, isDirect: true, isThrough: true)])
    var other = RequestBench(.write, [StorageRange(offset: 512, count: 512)], through: true, .direct)
    #expect(
      other.finish() == [
        .write(offset: 512, count: 512, isDirect: false, isThrough: false), .sync(offset: 512, count: 512),
      ])
    for operation in [StorageOperation.writeZeroes, .zeroAndDeallocate, .deallocate, .copy] {
      var bench = RequestBench(operation, [RequestTests.range], destination: 1 << 20, through: true, .direct)
      #expect(bench.finish().last == .syncAll, "\(operation)")
    }
    var read = RequestBench(.read, [RequestTests.range], through: true, .direct)
    #expect(read.finish().first == .sync(offset: 8192, count: 16384))
  }

  @Test("an unsupported deallocation succeeds without effect; zeros are written if nothing else produces them")
  func deallocates() {
    var hint = RequestBench(.deallocate, [RequestTests.range, RequestTests.range], .direct)
    for _ in 0..<2 {
      #expect(hint.next() == .deallocate(offset: 8192, count: 16384))
      hint.finishStep(-EOPNOTSUPP)
    }
    #expect(hint.request.isDone && hint.request.status == .success)
    var zeros = RequestBench(.zeroAndDeallocate, [RequestTests.range], .direct)
    for deallocates in [true, false] {
      #expect(zeros.next() == .zero(offset: 8192, count: 16384, deallocates: deallocates))
      zeros.finishStep(-EOPNOTSUPP)
    }
    #expect(zeros.finish() == [.write(offset: 8192, count: 16384, isDirect: true, isThrough: false)])
    #expect(zeros.buffer.allSatisfy { $0 == 0 })
  }

  @Test("a deallocation that fails for another reason fails")
  func failsToDeallocate() {
    for operation in [StorageOperation.deallocate, .zeroAndDeallocate, .writeZeroes] {
      var bench = RequestBench(operation, [RequestTests.range], .direct)
      _ = bench.next()
      bench.finishStep(-EIO)
      #expect(bench.request.isDone && bench.request.status.code == Status.writeFault.code)
    }
  }

  @Test("passthrough sends one Write Zeroes for as many blocks as it can name")
  func passesThrough() {
    let most: UInt64 = 65536 * 4096
    let all = StorageRange(offset: 0, count: most + 4096)
    var zeros = RequestBench(.writeZeroes, [all], .passedThrough)
    let first = StorageStep.zero(offset: 0, count: most, deallocates: false)
    #expect(zeros.finish() == [first, .zero(offset: most, count: 4096, deallocates: false)])
    var hint = RequestBench(.deallocate, [all], .passedThrough)
    #expect(hint.finish() == [.deallocate(offset: 0, count: all.count)])
    var data = RequestBench(.verify, [StorageRange(offset: 0, count: 128 << 10)], .passedThrough)
    #expect(data.finish().count == 2, "its buffer has 64 KiB")
    var through = RequestBench(.write, [StorageRange(offset: 4096, count: 4096)], through: true, .passedThrough)
    #expect(through.finish() == [.write(offset: 4096, count: 4096, isDirect: false, isThrough: true)])
  }

  @Test("commands that a device lacks are replaced; other statuses are returned")
  func passesThroughWithout() {
    var zeros = RequestBench(.writeZeroes, [RequestTests.range], .passedThrough)
    _ = zeros.next()
    zeros.finishStep(.invalidOpcode)
    #expect(zeros.finish() == [.write(offset: 8192, count: 16384, isDirect: false, isThrough: false)])
    #expect(zeros.request.status == .success && zeros.buffer.allSatisfy { $0 == 0 })
    var hint = RequestBench(.deallocate, [RequestTests.range], .passedThrough)
    _ = hint.next()
    hint.finishStep(.invalidOpcode)
    #expect(hint.request.isDone && hint.request.status == .success)
    for operation in [StorageOperation.writeZeroes, .deallocate] {
      var failing = RequestBench(operation, [RequestTests.range], .passedThrough)
      _ = failing.next()
      failing.finishStep(.lbaOutOfRange)
      #expect(failing.request.isDone && failing.request.status == .lbaOutOfRange)
    }
    var read = RequestBench(.read, [RequestTests.range], .passedThrough)
    _ = read.next()
    read.finishStep(.invalidOpcode)
    #expect(read.request.isDone && read.request.status == .invalidOpcode)
  }
}
