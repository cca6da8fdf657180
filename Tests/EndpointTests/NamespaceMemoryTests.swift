import Glibc
import NVMe
import Target
import Testing

@testable import Backends
@testable import Device

@Suite struct NamespaceMemoryTests {
  /// Pages of the memory that the kernel has given.
  private func residentPages(_ memory: NamespaceMemory) -> Int {
    var pages = [UInt8](repeating: 0, count: (memory.count + 4095) / 4096)
    #expect(mincore(memory.base, memory.count, &pages) == 0)
    return pages.count { $0 & 1 != 0 }
  }

  @Test(
    "Memory is allocated when it is accessed, or all of it by preparation",
    arguments: [4096, 5 << 20, 300 << 20])
  func prefault(bytes: UInt64) throws {
    let memory = try NamespaceMemory(bytes: bytes)
    #expect(Int(bitPattern: memory.base) % NamespaceMemory.hugePageBytes == 0)
    #expect(residentPages(memory) == 0)
    #expect(try memory.prefault { _, _ in })
    #expect(residentPages(memory) == Int(bytes) / 4096)
    #expect(memory.base.load(fromByteOffset: Int(bytes) - 8, as: UInt64.self) == 0)
  }

  @Test("More memory than available fails with a remedy")
  func tooMuch() throws {
    let memory = try NamespaceMemory(bytes: 1 << 46)
    let error = #expect(throws: EndpointError.self) { _ = try memory.prefault { _, _ in } }
    #expect(error?.description.contains("--no-prefault") == true)
  }

  @Test("An interrupt ends the preparation immediately, also for an added namespace")
  func interrupted() throws {
    let memory = try NamespaceMemory(bytes: 1 << 30)
    #expect(try !memory.prefault(isInterrupted: { true }, progress: { _, _ in }))
    #expect(residentPages(memory) < (1 << 30) / 4096)
    var configuration = EndpointConfiguration(backend: .null(bytes: 1 << 20, serviceTime: .none), ioQueuesMax: 1)
    configuration.prefaults = true
    let function = try EndpointFunction(configuration)
    defer { function.stop() }
    function.interruptPreparation()
    let error = #expect(throws: EndpointError.self) {
      try function.add(NamespaceConfiguration(nsid: 2, backend: .memory(bytes: 1 << 30)))
    }
    #expect(error?.description == "a signal came before namespace 2 was ready")
  }

  @Test("A small deallocation keeps its memory")
  func deallocation() throws {
    let memory = try NamespaceMemory(bytes: 16 << 20)
    #expect(try memory.prefault { _, _ in })
    memory.base.storeBytes(of: 7, as: UInt64.self)
    let request = IORequest(
      opcode: .writeZeroes, nsid: 1, qid: QueueID(1), cid: CommandID(0), slba: 0, blocks: 2048, blockShift: 9)
    #expect(MemoryBackend(base: memory.base).execute(request, data: nil).isSuccess)
    #expect(memory.base.load(as: UInt64.self) == 0)
    #expect(residentPages(memory) == (16 << 20) / 4096)
  }
}
