import Backends
import Chance
import Device
import Glibc
import NVMe
import Platform
import Service
import Testing

@testable import Host

/// An endpoint served on a socket of its own.
final class Served {
  private let endpoint: ServedEndpoint
  var path: String { endpoint.socketPath }

  init(_ backend: BackendConfiguration = .memory(bytes: 64 << 20)) throws {
    endpoint = try ServedEndpoint(EndpointConfiguration(backend: backend, ioQueuesMax: 4), logLevel: .critical)
    try endpoint.start()
  }

  deinit { try? endpoint.finish() }
}

@Suite("The host driver", .serialized)
struct HostControllerTests {
  @Test("brings a controller up and knows its namespace")
  func bringsUp() throws {
    let served = try Served()
    let controller = try HostController(path: served.path)
    #expect(controller.namespace == .init(nsid: 1, blocks: 131_072, blockShift: 9))
    #expect(controller.maxTransferBytes == 512 << 10)
    try controller.shutDown()
    try controller.disable()
    try controller.enable()
    let status = try controller.status()
    #expect(status.ready)
  }

  @Test("submits and waits for the interrupt")
  func waitsForInterrupt() throws {
    let served = try Served()
    let controller = try HostController(path: served.path)
    let interrupts = [try EventDescriptor(), try EventDescriptor()]
    try controller.client.setInterrupts(.msix, start: 0, descriptors: interrupts.map(\.descriptor))
    var queue = try controller.makeQueuePair(depth: 4, vector: 1)
    let buffer = try controller.share(4096)
    for _ in 0..<20 {
      var sqe = SubmissionEntry(opcode: IOOpcode.read.rawValue, cid: CommandID(0), nsid: 1)
      sqe.cdw12 = 7
      let isSubmitted = queue.submit(sqe, buffer: buffer.base, length: 4096)
      queue.ring()
      interrupts[1].wait(atMostMs: 10_000)
      let raised = interrupts[1].consume()
      var statuses: [Status] = []
      let count = queue.reap { cqe, _ in statuses.append(cqe.status) }
      #expect(isSubmitted && raised == 1 && count == 1 && statuses == [.success])
    }
    try controller.delete(queue)
  }

  @Test(
    "reads back what it wrote, at every size and PRP offset",
    arguments: [512, 4096, 8192, 12288, 524_288])
  func movesData(bytes: Int) throws {
    let served = try Served()
    let controller = try HostController(path: served.path)
    var queue = try controller.makeQueuePair(depth: 2)
    let buffer = try controller.share(bytes + 4096)
    for offset in [0, 4, 512, 4092] {
      let data = UnsafeMutableRawBufferPointer(start: buffer.base + offset, count: bytes)
      for place in stride(from: 0, to: bytes, by: 8) {
        data.storeBytes(of: SeededGenerator.mix(UInt64(place * 31 + offset)), toByteOffset: place, as: UInt64.self)
      }
      let wanted = [UInt8](data)
      for opcode in [IOOpcode.write, .read] {
        var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0), nsid: 1)
        sqe.slba = 77
        sqe.cdw12 = UInt32(bytes / 512 - 1)
        let isSubmitted = queue.submit(sqe, buffer: data.baseAddress!, length: bytes)
        queue.ring()
        var status: Status?
        while status == nil { _ = queue.reap(1) { cqe, _ in status = cqe.status } }
        #expect(isSubmitted && status == .success)
        if opcode == .write { data.initializeMemory(as: UInt8.self, repeating: 0) }
      }
      #expect([UInt8](data) == wanted)
    }
    try controller.delete(queue)
  }

  @Test("reports a wrong socket, depth or number of queues in one line")
  func complains() throws {
    #expect(throws: HostError.self) { try HostController(path: "/nowhere/socket") }
    let served = try Served()
    let controller = try HostController(path: served.path)
    #expect(throws: HostError.self) { _ = try controller.makeQueuePair(depth: 5000) }
    for _ in 0..<4 { _ = try controller.makeQueuePair(depth: 1) }
    let error = #expect(throws: HostError.self) { _ = try controller.makeQueuePair(depth: 1) }
    #expect(error?.description.contains("--queues") == true)
  }
}
