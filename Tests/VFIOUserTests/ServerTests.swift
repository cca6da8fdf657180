import CPlatform
import Device
import Glibc
import LocalSocket
import Platform
import Synchronization
import TestSeed
import Testing

@testable import VFIOUser

/// What several threads tell.
final class Told: Sendable {
  private let lines = Mutex<[String]>([])

  func add(_ line: String) { lines.withLock { $0.append(line) } }

  /// How many lines contain this.
  func count(_ text: String) -> Int { lines.withLock { $0.count { $0.contains(text) } } }
}

/// A clock that stands until it is set forward.
final class TestClock: Sendable {
  private let ns = Mutex<UInt64>(1_000_000_000)

  var monotonic: MonotonicClock { MonotonicClock(now: { self.ns.withLock { $0 } }) }

  func advance(seconds: UInt64) { ns.withLock { $0 += seconds * 1_000_000_000 } }
}

/// A served endpoint, and raw sockets to it.
final class Served {
  let path = "/tmp/nvmepf-test-\(getpid())-\(UInt64.random(in: 0...UInt64.max)).sock"
  private let server: Server
  private let function: EndpointFunction
  private let thread: WorkerThread
  private var hasStopped = false

  /// What was told so far, in words.
  let told: Told

  init(clock: MonotonicClock = MonotonicClock()) throws {
    let told = Told()
    self.told = told
    let server = try Server(path: path, clock: clock) { told.add("\($0)") }
    let function = try EndpointFunction(
      EndpointConfiguration(backend: .memory(bytes: 1 << 20), ioQueuesMax: 4), tell: { told.add("\($0)") })
    (self.server, self.function) = (server, function)
    thread = try WorkerThread(name: "serve") {
      // What a client does against the protocol costs it its connection, nobody else's.
      while (try? server.serve(function)) ?? true {}
    }
  }

  deinit {
    stop()
    function.stop()
  }

  /// Returns when the serving has ended.
  func stop() {
    guard !hasStopped else { return }
    hasStopped = true
    server.stop()
    thread.join()
  }

  func connect() throws -> Int32 {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    let result = try LocalSocket.withAddress(path) { Glibc.connect(descriptor, $0, $1) }
    try #require(result == 0)
    return descriptor
  }
}

/// Send bytes, and read one reply: its header and payload.
private func exchange(_ socket: Int32, _ bytes: [UInt8]) -> (MessageHeader, [UInt8])? {
  guard send(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else { return nil }
  return receive(socket)
}

private func receive(_ socket: Int32) -> (MessageHeader, [UInt8])? {
  var header = MessageHeader(messageID: 0, command: 0, size: 0)
  guard recv(socket, &header, 16, Int32(MSG_WAITALL)) == 16 else { return nil }
  var payload = [UInt8](repeating: 0, count: Int(header.size) - 16)
  guard payload.isEmpty || recv(socket, &payload, payload.count, Int32(MSG_WAITALL)) == payload.count else {
    return nil
  }
  return (header, payload)
}

private func message(
  _ id: UInt16, _ command: UInt16, flags: UInt32 = 0, _ build: (inout PayloadWriter) -> Void = { _ in }
)
  -> [UInt8]
{
  var payload = PayloadWriter()
  build(&payload)
  let header = MessageHeader(
    messageID: id, command: command, size: UInt32(16 + payload.bytes.count), flags: flags)
  return withUnsafeBytes(of: header) { [UInt8]($0) } + payload.bytes
}

private func version(_ minor: UInt16, json: String?) -> [UInt8] {
  message(0, 1) {
    $0.put(UInt16(0))
    $0.put(minor)
    if let json { $0.put(json) }
  }
}

@Suite("A vfio-user server", .serialized)
struct ServerTests {
  @Test("answers a client of 0.0 with capabilities, as QEMU is, and one of 0.1 without any, with their own version")
  func negotiates() throws {
    let served = try Served()
    for (minor, json) in [(0, #"{"capabilities":{"max_msg_fds":16}}"#), (1, nil), (7, nil)] as [(UInt16, String?)] {
      let socket = try served.connect()
      let (header, payload) = try #require(exchange(socket, version(minor, json: json)))
      #expect(header.isReply && !header.isError)
      #expect(payload[0...3] == [0, 0, UInt8(min(minor, 1)), 0])
      #expect(payload.last == 0 && payload.contains(UInt8(ascii: "{")))
      close(socket)
    }
  }

  @Test("refuses another major version, and messages before the version")
  func refusesVersions() throws {
    let served = try Served()
    var bytes = version(0, json: nil)
    bytes[16] = 9
    for first in [bytes, message(1, 4) { $0.put(UInt32(16)) }] {
      let socket = try served.connect()
      let (header, _) = try #require(exchange(socket, first))
      #expect(header.isError && header.error == UInt32(EINVAL))
      #expect(receive(socket) == nil)
      close(socket)
    }
  }

  @Test("describes the doorbell page in two steps, with one descriptor")
  func describesRegion() throws {
    let served = try Served()
    let socket = try served.connect()
    _ = exchange(socket, version(0, json: nil))
    func ask(_ argsz: UInt32) -> [UInt8] {
      message(3, 5) {
        for value in [argsz, 0, 0, 0] as [UInt32] { $0.put(value) }
        $0.put(UInt64(0))
        $0.put(UInt64(0))
      }
    }
    let (_, short) = try #require(exchange(socket, ask(32)))
    #expect(short.count == 32 && short[0] == 64 && short[4] == 0xf && short[12] == 32)
    let (header, whole) = try #require(exchange(socket, ask(64)))
    #expect(header.messageID == 3 && whole.count == 64)
    #expect(whole[48...63].elementsEqual([0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]))
    close(socket)
  }

  @Test("answers pipelined messages in order, and posted writes not at all")
  func pipelines() throws {
    let served = try Served()
    let socket = try served.connect()
    _ = exchange(socket, version(0, json: nil))
    let write = message(7, 10, flags: MessageHeader.noReply) {
      $0.put(UInt64(0x24))
      $0.put(UInt32(0))
      $0.put(UInt32(4))
      $0.put(UInt32(0x001f_001f))
    }
    func read(_ id: UInt16, _ offset: UInt64) -> [UInt8] {
      message(id, 9) {
        $0.put(offset)
        $0.put(UInt32(0))
        $0.put(UInt32(4))
      }
    }
    let (first, aqa) = try #require(exchange(socket, write + read(8, 0x24) + read(9, 0x08)))
    let (second, version) = try #require(receive(socket))
    #expect(first.messageID == 8 && aqa[16...] == [0x1f, 0, 0x1f, 0])
    #expect(second.messageID == 9 && version[16...] == [0, 1, 2, 0])
    close(socket)
  }

  @Test("maps shared memory and ROM without a descriptor, refuses what overlaps, wraps or ends beyond its file")
  func mapsMemory() throws {
    let served = try Served()
    let client = try Client(path: served.path)
    let file = nvmepf_memfd("test")
    defer { close(file) }
    ftruncate(file, 1 << 20)
    try client.mapMemory(address: 0x10_0000, size: 1 << 20, descriptor: file)
    try client.mapMemory(address: 0xfffc_0000, size: 0x40000, descriptor: -1)
    for (address, size) in [
      (0x10_f000, 0x1000), (UInt64.max - 0xfff, 0x2000), (0x100, 0x1000), (0x200_0000, 1 << 21), (0, 0),
    ]
      as [(UInt64, UInt64)]
    {
      #expect(throws: VFIOUserError.self) {
        try client.mapMemory(address: address, size: size, descriptor: file)
      }
    }
    try client.unmapMemory(address: 0x10_0000, size: 1 << 20)
    try client.mapMemory(address: 0x10_0000, size: 1 << 20, descriptor: file)
    #expect(throws: VFIOUserError.self) { try client.unmapMemory(address: 0x5000, size: 0x1000) }
  }

  @Test("accepts interrupt descriptors in parts or none, and refuses those beyond the last")
  func takesInterrupts() throws {
    let served = try Served()
    let client = try Client(path: served.path)
    let event = nvmepf_eventfd()
    defer { close(event) }
    try client.setInterrupts(.msix, start: 0, descriptors: [event, event])
    try client.setInterrupts(.msix, start: 2, descriptors: [event])
    try client.setInterrupts(.msix, start: 0, descriptors: [])
    #expect(throws: VFIOUserError.self) { try client.setInterrupts(.msix, start: 5, descriptors: [event]) }
  }

  @Test("masks and unmasks INTx by messages, and refuses what else there could be masked")
  func masks() throws {
    let served = try Served()
    let client = try Client(path: served.path)
    try client.act(.mask, .intx, index: 0)
    try client.act(.unmask, .intx, index: 0)
    for (action, kind) in [(.mask, .msix), (.unmask, .msix), (.unmask, .error)] as [(InterruptAction, InterruptKind)] {
      let refusal = #expect(throws: VFIOUserError.self) { try client.act(action, kind, index: 0) }
      #expect(refusal?.kind == .refused(EINVAL))
    }
  }

  @Test("accepts eventfds for interrupts, and nothing that could end or block it")
  func refusesOthers() throws {
    let served = try Served()
    let client = try Client(path: served.path)
    var ends: [Int32] = [-1, -1]
    pipe(&ends)
    let others = [
      ends[1], nvmepf_memfd("test"), socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0), open("/dev/null", O_WRONLY),
    ]
    defer { for descriptor in others + [ends[0]] { close(descriptor) } }
    let event = nvmepf_eventfd()
    defer { close(event) }
    for other in others {
      let refusal = #expect(throws: VFIOUserError.self) {
        try client.setInterrupts(.msix, start: 0, descriptors: [event, other])
      }
      #expect(refusal?.kind == .refused(EINVAL))
    }
    try client.setInterrupts(.msix, start: 0, descriptors: [event])
  }

  @Test("a full, blocking eventfd costs its client the interrupt and delays no answer")
  func outlastsFullEventfd() throws {
    let served = try Served()
    let client = try Client(path: served.path)
    let event = nvmepf_eventfd()
    _ = fcntl(event, F_SETFL, 0)
    defer { close(event) }
    try client.setInterrupts(.msix, start: 0, descriptors: [event])
    var most = UInt64.max - 1
    #expect(write(event, &most, 8) == 8)
    try client.act(.trigger, .msix, index: 0)
    #expect(try client.read(region: PCIRegion.bar0, offset: 8, as: UInt32.self) == 0x0002_0100)
    var count: UInt64 = 0
    #expect(read(event, &count, 8) == 8 && count >= most)
    try client.act(.trigger, .msix, index: 0)
    #expect(read(event, &count, 8) == 8 && count == 1)
  }

  @Test("gives each client its own sealed doorbells")
  func separatesDoorbells() throws {
    let served = try Served()
    var inodes: Set<ino_t> = []
    for _ in 0..<2 {
      let client = try Client(path: served.path)
      let page = try client.regionInfo(PCIRegion.bar0).descriptor
      defer { close(page) }
      var status = stat()
      #expect(fstat(page, &status) == 0)
      inodes.insert(status.st_ino)
      for size in [0, status.st_size + 4096] { #expect(ftruncate(page, size) == -1 && errno == EPERM) }
    }
    #expect(inodes.count == 2)
  }

  @Test("a client that truncates its memory loses its connection, and the next is served")
  func outlastsTruncation() throws {
    let served = try Served()
    let base: UInt64 = 0x10_0000
    for gone in [base, base + 0x1000] {
      let client = try Client(path: served.path)
      // The queue that stays lies in a file of its own.
      let files = [nvmepf_memfd("test"), nvmepf_memfd("test")]
      defer { for file in files { close(file) } }
      for (place, file) in files.enumerated() {
        #expect(ftruncate(file, 4096) == 0)
        try client.mapMemory(address: base + UInt64(place) * 4096, size: 4096, descriptor: file)
      }
      var sqe: [UInt8] = [0x18] + [UInt8](repeating: 0, count: 63)  // Keep Alive
      #expect(pwrite(files[0], &sqe, 64, 0) == 64)
      try client.write(region: PCIRegion.bar0, offset: 0x24, UInt32(0x001f_001f))
      try client.write(region: PCIRegion.bar0, offset: 0x28, base)
      try client.write(region: PCIRegion.bar0, offset: 0x30, base + 0x1000)
      try client.write(region: PCIRegion.bar0, offset: 0x14, UInt32(0x0046_0001))
      #expect(ftruncate(files[gone == base ? 0 : 1], 0) == 0)
      try client.write(region: PCIRegion.bar0, offset: 0x1000, UInt32(1))
      while client.isConnected { sched_yield() }
    }
    #expect(served.told.count("is gone, because the client truncated its file") == 2)
    #expect(served.told.count("share=on") == 0)
    _ = try Client(path: served.path)
  }

  @Test("the registers of a guest's other devices are not taken for memory that is not shared")
  func ignoresOtherDevices() throws {
    let served = try Served()
    let client = try Client(path: served.path)
    let file = nvmepf_memfd("test")
    defer { close(file) }
    #expect(ftruncate(file, 4096) == 0)
    try client.mapMemory(address: 0x10_0000, size: 4096, descriptor: file)
    try client.mapMemory(address: 0x20_0000, size: 4096, descriptor: -1)
    #expect(served.told.count("memoryNotShared") == 0)
  }

  @Test("reports once that memory is not shared, and why the controller therefore stops")
  func tellsOfUnsharedMemory() throws {
    let served = try Served()
    let client = try Client(path: served.path)
    for address: UInt64 in [0x10_0000, 0x20_0000] {
      try client.mapMemory(address: address, size: 0x10_0000, descriptor: -1)
    }
    #expect(served.told.count("memoryNotShared") == 1)
    try client.write(region: PCIRegion.bar0, offset: 0x24, UInt32(0x001f_001f))
    try client.write(region: PCIRegion.bar0, offset: 0x28, UInt64(0x10_0000))
    try client.write(region: PCIRegion.bar0, offset: 0x30, UInt64(0x10_1000))
    try client.write(region: PCIRegion.bar0, offset: 0x14, UInt32(0x0046_0001))
    try client.write(region: PCIRegion.bar0, offset: 0x1000, UInt32(1))
    while served.told.count("cannot fetch from submission queue 0: host memory at 0x100000") == 0 { sched_yield() }
    let status = try client.read(region: PCIRegion.bar0, offset: 0x1c, as: UInt32.self)
    #expect(status & 2 != 0)
  }

  @Test("refuses memory that another program or machine provides")
  func refusesForeignMemory() throws {
    let served = try Served()
    let client = try Client(path: served.path)
    let file = open("/proc/self/mounts", O_RDONLY)
    #expect(nvmepf_mapping_alignment(file) == 0)
    close(file)
    // The kernel makes what is in it up, as another program would.
    let foreign = open("/sys/kernel/uevent_seqnum", O_RDONLY)
    defer { close(foreign) }
    for address: UInt64 in [0, 4096] {
      let refusal = #expect(throws: VFIOUserError.self) {
        try client.mapMemory(address: address, size: 4096, descriptor: foreign)
      }
      #expect(refusal?.kind == .refused(EOPNOTSUPP))
    }
    #expect(served.told.count("memoryRefused") == 1)
    let memory = nvmepf_memfd("test")
    defer { close(memory) }
    #expect(nvmepf_mapping_alignment(memory) == 4096)
    #expect(ftruncate(memory, 4096) == 0)
    try client.mapMemory(address: 0, size: 4096, descriptor: memory)
  }

  @Test("serves a client that sends a message, however many silent ones have connected before")
  func ignoresSilence() throws {
    let served = try Served()
    let silent = try (0..<20).map { _ in try served.connect() }
    defer { for socket in silent { close(socket) } }
    let client = try Client(path: served.path)
    #expect(try client.read(region: PCIRegion.bar0, offset: 8, as: UInt32.self) == 0x0002_0100)
  }

  @Test("a client that sends while another is served is not disconnected for silence")
  func waitsForItsTurn() throws {
    let clock = TestClock()
    let served = try Served(clock: clock.monotonic)
    let next = try served.connect()
    defer { close(next) }
    // The one behind it in line is served, so the server has taken it.
    let first = try served.connect()
    _ = try #require(exchange(first, version(0, json: nil)))
    clock.advance(seconds: 3600)
    let bytes = version(0, json: nil)
    #expect(send(next, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count)
    close(first)
    #expect(receive(next) != nil)
  }

  @Test("a client that sends nothing in time is disconnected")
  func dropsSilent() throws {
    let clock = TestClock()
    let served = try Served(clock: clock.monotonic)
    let silent = try served.connect()
    defer { close(silent) }
    var byte: UInt8 = 0
    repeat {
      // Whoever connects makes the server look; the time that it serves in between does not count.
      clock.advance(seconds: 10)
      close(try served.connect())
    } while recv(silent, &byte, 1, Int32(MSG_DONTWAIT)) != 0
  }

  @Test("a client that does not complete a message in time is disconnected, even if it sends single bytes")
  func ignoresHalfMessages() throws {
    var ends: [Int32] = [-1, -1]
    #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    defer { close(ends[1]) }
    let other = ends[1]
    let bytes = message(1, 10) { for _ in 0..<16 { $0.put(UInt64(0)) } }
    let clock = TestClock()
    // A byte arrives at every reading of the clock, well within the limit; all of them do not.
    let sent = Mutex(0)
    let dribble = MonotonicClock {
      clock.advance(seconds: 2)
      sent.withLock { count in
        if count < bytes.count {
          var byte = bytes[count]
          count += send(other, &byte, 1, Int32(MSG_NOSIGNAL))
        } else {
          shutdown(other, Int32(SHUT_WR))
        }
      }
      return clock.monotonic.now()
    }
    let connection = Connection(ends[0], timeoutMs: 10_000, clock: dribble)
    #expect(throws: VFIOUserError.self) { while try connection.receive() != nil {} }
  }

  @Test("an eventfd that replaces one with an unread interrupt gets only the next interrupt")
  func exchangesEventfd() throws {
    let served = try Served()
    let client = try Client(path: served.path)
    let (before, after) = (nvmepf_eventfd(), nvmepf_eventfd())
    defer { for event in [before, after] { close(event) } }
    var most = UInt64.max - 1
    #expect(write(before, &most, 8) == 8)
    try client.setInterrupts(.msix, start: 0, descriptors: [before])
    try client.act(.trigger, .msix, index: 0)
    try client.setInterrupts(.msix, start: 0, descriptors: [after])
    try client.act(.trigger, .msix, index: 0)
    var count: UInt64 = 0
    #expect(read(after, &count, 8) == 8 && count == 1)
    #expect(read(before, &count, 8) == 8 && count >= most)
    try client.act(.trigger, .msix, index: 0)
    #expect(read(before, &count, 8) == -1 && errno == EAGAIN)
    #expect(read(after, &count, 8) == 8 && count == 1)
  }

  @Test("ends when stopped, whatever its client has half sent or not read")
  func endsMidMessage() throws {
    let half = message(1, 10) { $0.put(UInt64(0)) }
    let ask = message(2, 9) {
      $0.put(UInt64(0))
      $0.put(PCIRegion.configuration)
      $0.put(UInt32(4096))
    }
    for bytes in [Array(half.dropLast(4)), Array(repeating: ask, count: 200).flatMap { $0 }] {
      let served = try Served()
      let socket = try served.connect()
      _ = exchange(socket, version(0, json: nil))
      #expect(send(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count)
      served.stop()
      close(socket)
    }
  }

  @Test("the configuration space is an NVMe function whose BAR can be sized")
  func hasConfiguration() throws {
    let served = try Served()
    let client = try Client(path: served.path)
    let space = try client.read(region: PCIRegion.configuration, offset: 0, count: 4096)
    #expect(space[9...11] == [2, 8, 1] && space[6] & 0x10 != 0)
    try client.write(region: PCIRegion.configuration, offset: 0x10, UInt32.max)
    #expect(try client.read(region: PCIRegion.configuration, offset: 0x10, as: UInt32.self) == 0xffff_0004)
    var capability = Int(space[0x34])
    var ids: [UInt8] = []
    while capability != 0, ids.count < 10 {
      ids.append(space[capability])
      capability = Int(space[capability + 1])
    }
    #expect(ids == [0x01, 0x10, 0x11])
    try client.write(region: PCIRegion.configuration, offset: 0, UInt32.max)
    #expect(try client.read(region: PCIRegion.configuration, offset: 0, as: UInt32.self) != .max)
  }

  @Test("survives arbitrary messages, keeps no descriptor, and serves the next client")
  func survives() throws {
    let served = try Served()
    var random = drawnNumbers("hostile client")
    func next() -> UInt64 { random.next() }
    var template = Array("/tmp/nvmepf-sent-XXXXXX".utf8CString)
    let sent = mkstemp(&template)
    defer { close(sent) }
    unlink(template)
    for _ in 0..<300 {
      let socket = try served.connect()
      _ = exchange(socket, version(0, json: nil))
      for _ in 0..<8 {
        var bytes = message(UInt16(next() & 0xffff), UInt16(next() % 18), flags: MessageHeader.noReply) {
          for _ in 0..<(next() % 12) { $0.put(next() % 3 == 0 ? next() : next() % 0x3000) }
        }
        if next() % 6 == 0 { bytes[4] = UInt8(truncatingIfNeeded: next()) }
        if next() % 20 == 0 { bytes.removeLast(Int(next() % 8)) }
        let descriptors = [Int32](repeating: sent, count: Int(next() % 4))
        _ = nvmepf_send_with_fds(socket, bytes, bytes.count, descriptors, descriptors.count)
      }
      close(socket)
    }
    // A client is served only when the one before is gone, with all that was its own.
    let client = try Client(path: served.path)
    #expect(openDescriptors(of: sent) == 1)
    #expect(openDescriptors(boundTo: served.path) == 2, "the server's, and this client's")
    #expect(try client.read(region: PCIRegion.bar0, offset: 8, as: UInt32.self) == 0x0002_0100)
  }

  /// Descriptors of this process for the file that `descriptor` is; other tests open and close their own meanwhile.
  private func openDescriptors(of descriptor: Int32) -> Int {
    var file = stat()
    fstat(descriptor, &file)
    return (0..<1024 as Range<Int32>).count {
      var other = stat()
      return fstat($0, &other) == 0 && other.st_dev == file.st_dev && other.st_ino == file.st_ino
    }
  }

  /// Sockets of this process whose own address is `path`: those that listen there and those accepted there.
  private func openDescriptors(boundTo path: String) -> Int {
    (0..<1024 as Range<Int32>).count { descriptor in
      var address = sockaddr_un()
      var length = socklen_t(MemoryLayout<sockaddr_un>.size)
      let found = withUnsafeMutableBytes(of: &address) {
        getsockname(descriptor, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length) == 0
      }
      let bound = withUnsafeBytes(of: address.sun_path) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      return found && address.sun_family == UInt16(AF_UNIX) && bound == path
    }
  }

  @Test("reports a socket in use, a path that is too long and a missing directory in one line; replaces a stale socket")
  func complains() throws {
    let served = try Served()
    let inUse = #expect(throws: VFIOUserError.self) { try Server(path: served.path) }
    #expect(inUse?.kind == .socket(.inUse))
    let long = #expect(throws: VFIOUserError.self) { try Server(path: "/tmp/" + String(repeating: "x", count: 200)) }
    #expect(long?.kind == .socket(.pathTooLong))
    #expect(throws: VFIOUserError.self) { try Server(path: "/nowhere/socket") }
    let stale = "\(served.path).stale"
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    _ = try LocalSocket.withAddress(stale) { bind(descriptor, $0, $1) }
    close(descriptor)
    _ = try Server(path: stale)
    #expect(access(stale, F_OK) != 0)
  }
}
