import Device
import Foundation
import Testing

@testable import Service

/// A folder that goes with its last user.
final class Folder {
  let path = NSTemporaryDirectory() + "/nvmepf-\(UUID().uuidString)"

  init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ name: String, _ text: String, mode: Int = 0o644) throws -> String {
    let file = "\(path)/\(name)"
    try text.write(toFile: file, atomically: false, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file)
    return file
  }
}

func words(_ text: String) -> [[UInt8]] { text.split(separator: " ").map { Array($0.utf8) } }

/// Tests run the fio that is installed: what its options and job files mean is its own to say.
@Suite("The command of a recording", .serialized)
struct RecordedCommandTests {
  private func timed(_ text: String) -> String? { RecordedCommand(words(text), allowsRealDevices: false).timed }

  @Test(
    "is timed where fio is told how long to run, by any beginning of the option's name",
    arguments: ["--time_based", "--time_based=1", "-time_based", "--time_b"])
  func isTimed(word: String) {
    #expect(timed("fio --name=a --runtime=1 \(word)") == "\(word) says how long")
    #expect(timed("env A=1 fio --name=a --runtime=1 \(word)") == "\(word) says how long")
  }

  @Test(
    "is not timed where fio has a number of commands, or is not in the command",
    arguments: [
      "fio --name=a --number_ios=10", "fio --name=a --time_based=0", "fio --name=a --timeout=5", "fio -",
      "echo --time_based", "",
    ])
  func isNotTimed(text: String) { #expect(timed(text) == nil) }

  @Test("is timed by its job file, which fio itself reads")
  func isTimedByFile() throws {
    let folder = try Folder()
    let job = try folder.write("job.fio", "[global]\nruntime=1\ntime_based\n[a]\nrw=read\nsize=4k\n")
    #expect(timed("fio \(job)") == "time_based in the job file says how long")
    let other = try folder.write("other.fio", "[a]\nrw=read\nsize=4k\n")
    #expect(timed("fio \(other)") == nil)
    // Standard input is the command's own.
    #expect(timed("fio \(other) -") == nil)
  }

  // MARK: QEMU

  private static let device =
    #"{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/s"}}"#

  @Test(
    "QEMU gets the endpoint as a device", arguments: ["qemu-system-x86_64", "/opt/bin/qemu-system-aarch64", "kvm"])
  func addsDevice(name: String) {
    let added = RecordedCommand.device(words("\(name) -m 2G"), "/s")
    #expect(added.words == ["-device", Self.device])
    #expect(added.notes.count == 2 && added.notes[0].hasSuffix(": -device '\(Self.device)'"))
    #expect(
      added.notes[1].hasPrefix("the guest's memory must be shared, for 2 GiB: -m 2G -object memory-backend-memfd"))
  }

  @Test("QEMU with shared memory gets no advice to share it")
  func sharesMemory() {
    let line = words("qemu-system-x86_64 -object memory-backend-memfd,id=ram,size=1G,share=on")
    #expect(RecordedCommand.device(line, "/s").notes == ["added to qemu-system-x86_64: -device '\(Self.device)'"])
  }

  @Test(
    "nothing is added to QEMU with such a device, nor to other commands",
    arguments: ["qemu-system-x86_64 -device vfio-user-pci,id=a", "fio --name=qemu-system-x86_64", "sh -c kvm", ""])
  func addsNothing(text: String) {
    let added = RecordedCommand.device(words(text), "/s")
    #expect(added.words.isEmpty && added.notes.isEmpty)
  }

  // MARK: Before it starts

  @Test("that does not exist is refused at the start with a remedy")
  func isMissing() throws {
    let folder = try Folder()
    func error(_ name: String) -> String? {
      let command = RecordedCommand([Array(name.utf8)], allowsRealDevices: false, searchPath: folder.path)
      do { try command.check() } catch { return "\(error)" }
      return nil
    }
    #expect(error("nosuch") == "cannot run nosuch: no such command; check its spelling and PATH")
    #expect(error("fio") == "cannot run fio: no such command; apt-get install fio")
    _ = try folder.write("plain", "")
    #expect(error("plain") == "cannot run plain: no such command; check its spelling and PATH")
    _ = try folder.write("tool", "#!/bin/sh\n", mode: 0o755)
    #expect(error("tool") == nil)
    #expect(error("\(folder.path)/tool") == nil)
  }

  @Test("a fio that ignores preloads is refused, unless real devices are allowed")
  func isSealed() throws {
    let folder = try Folder()
    // A copy with the set-user-ID bit: the loader ignores what is to be preloaded.
    let fio = folder.path + "/fio"
    try FileManager.default.copyItem(atPath: "/usr/bin/fio", toPath: fio)
    try FileManager.default.setAttributes([.posixPermissions: 0o4755], ofItemAtPath: fio)
    let refused = RecordedCommand(words("\(fio) --name=a"), allowsRealDevices: false, searchPath: "/usr/bin")
    #expect {
      try refused.check()
    } throws: { "\($0)".contains("fio engine") || "\($0)".contains("the I/O of \(fio) cannot be redirected") }
    #expect(refused.words == words("\(fio) --name=a"))
  }

  // MARK: Under an endpoint

  @Test("finds socket, rings and settings in its environment, and the recording's fio first in PATH")
  func environment() throws {
    let folder = try Folder()
    let trace = folder.path + "/a.nvpt"
    let endpoint = try ServedEndpoint(
      EndpointConfiguration(backend: .memory(bytes: 1 << 20), ioQueuesMax: 1), output: .trace(trace),
      logLevel: .critical)
    try endpoint.start()
    let script = try folder.write("command", "#!/bin/sh\nenv > \(folder.path)/seen\nexit 3\n", mode: 0o755)
    let command = RecordedCommand(words(script), allowsRealDevices: true)
    let (status, failure) = endpoint.record { watch in
      try command.start(endpoint, keepsData: true, timeout: 2.5).wait(watch)
    }
    #expect(status == 3 && failure == nil)
    let seen = try String(contentsOfFile: folder.path + "/seen", encoding: .utf8).split(separator: "\n")
    for line in [
      "NVMEPF_SOCKET=\(endpoint.socketPath)", "NVMEPF_RINGS=\(endpoint.folder)", "NVMEPF_KEEPS_DATA=1",
      "NVMEPF_ALLOWS_REAL_DEVICES=1", "NVMEPF_TIMEOUT=2.5",
    ] {
      #expect(seen.contains { $0 == line }, "\(line)")
    }
    #expect(seen.contains { $0.hasPrefix("PATH=\(endpoint.folder):") })
    #expect(!FileManager.default.fileExists(atPath: endpoint.folder))
  }
}
