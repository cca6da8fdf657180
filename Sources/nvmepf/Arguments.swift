import ArgumentParser
import Configuration
import Device
import Service
import Target

/// A number of bytes: `4096`, `4k`, `512KiB`, `1GiB`. Every suffix is a power of two, as in fio.
struct ByteCount: ExpressibleByArgument {
  let bytes: UInt64

  init(bytes: UInt64) { self.bytes = bytes }

  init?(argument: String) {
    guard let bytes = parseBytes(argument) else { return nil }
    self.bytes = bytes
  }

  var defaultValueDescription: String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] where bytes % (1 << shift) == 0 {
      return "\(bytes >> shift)\(unit)"
    }
    return "\(bytes)"
  }
}

/// Check an option's value; the message states what it must be.
func require(_ isValid: Bool, _ message: @autoclosure () -> String) throws {
  if !isValid { throw ValidationError(message()) }
}

/// Options of the endpoint, common to `record` and `serve`.
struct EndpointOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Read the endpoint's configuration, as saved by nvmetcli, instead of the options below (docs/configuration.md)",
      valueName: "file"), completion: .file())
  var config: String?

  @Option(
    help: ArgumentHelp(
      "With --config: serve the subsystem of this port, whatever its transport (default: the only PCI port)",
      valueName: "number"))
  var port: UInt32?

  @Option(
    help: ArgumentHelp(
      "With --config: serve this subsystem (default: the port's). With record --kernel: record only this subsystem of the target",
      valueName: "NQN"))
  var subsystem: String?

  @Option(
    help: ArgumentHelp(
      "Derive NQN, serial number, controller identifier and namespace UUIDs from this text, unless given otherwise (default: where serve listens)",
      valueName: "text"))
  var id: String?

  @Option(help: ArgumentHelp("NVMe Qualified Name of the subsystem (default: derived, see --id)", valueName: "NQN"))
  var nqn: String?

  @Option(help: ArgumentHelp("Serial number, at most 20 characters (default: derived, see --id)", valueName: "text"))
  var serial: String?

  @Option(
    help: ArgumentHelp(
      "Highest namespace identifier that can be added later, at most 1024 (default: 32, or the highest configured)",
      valueName: "number"))
  var namespacesMax: UInt32?

  @Option(
    help: ArgumentHelp(
      "Back the namespace with nothing (null, null:SIZE, or null:SIZE,constant:10us for a service time; also exponential:10us, uniform:5us-20us), with memory (memory, memory:SIZE), or with the file or device at a path",
      valueName: "backend"), completion: .file())
  var backend = "null"

  @Option(help: ArgumentHelp("Size of a null or memory namespace without a size of its own", valueName: "bytes"))
  var size = ByteCount(bytes: 1 << 30)

  @Option(
    help: ArgumentHelp("Logical block size: 512 or 4096 (default: the device's own, else 512)", valueName: "bytes"))
  var blockSize: ByteCount?

  @Option(help: ArgumentHelp("Largest data transfer: a power of two from 8KiB to 2MiB", valueName: "bytes"))
  var mdts = ByteCount(bytes: 512 << 10)

  @Option(help: "Fetch submission queue entries one by one, or a burst in one transfer")
  var fetch = Fetch.single

  enum Fetch: String, CaseIterable, ExpressibleByArgument {
    case single, batch
  }

  @Option(
    help: ArgumentHelp(
      "Poll CC at this interval, like a driver whose registers are plain memory; 0 handles each write immediately",
      valueName: "ms"))
  var ccPoll: UInt32 = 0

  @Option(help: ArgumentHelp("Sleep between polls after this long without a command", valueName: "ms"))
  var idle: UInt32 = 5000

  @Option(help: ArgumentHelp("Length of such a sleep", valueName: "ms"))
  var nap: UInt32 = 5

  @Flag(
    inversion: .prefixedNo,
    help: "Allocate a memory namespace before a host connects, so that no command waits for page faults")
  var prefault = true

  @Option(help: ArgumentHelp("I/O queue pairs that a host may create, 1 to 128", valueName: "number"))
  var queues = 64

  @Option(
    help: ArgumentHelp("Keep only the newest events, about this many bytes (default: keep all)", valueName: "bytes"))
  var flightRecorder: ByteCount?

  @Option(help: "Record a digest of transferred data, or the data itself")
  var payload = Payload.digest

  enum Payload: String, CaseIterable, ExpressibleByArgument {
    case digest, full
  }

  @Option(help: StateHashInterval.help)
  var stateHashEvery: UInt64?

  @OptionGroup var faults: FaultOptions

  /// Settings that a configuration file contains itself.
  private static let replaced = [
    "--backend", "--size", "--block-size", "--mdts", "--fetch", "--cc-poll", "--idle", "--nap", "--queues", "--nqn",
    "--serial",
  ]

  func validate() throws {
    let given = CommandLine.arguments.prefix { $0 != "--" }.map { $0.prefix { $0 != "=" } }
    if config != nil, let other = EndpointOptions.replaced.first(where: { given.contains(Substring($0)) }) {
      throw ValidationError("--config and \(other) exclude each other: the file describes the endpoint")
    }
    try require((1...128).contains(queues), "--queues must be between 1 and 128")
    try require((4096...1 << 46).contains(size.bytes), "--size must be between 4KiB and 64TiB")
    try require([nil, 512, 4096].contains(blockSize?.bytes), "--block-size must be 512 or 4096")
    try require(
      mdts.bytes.nonzeroBitCount == 1 && (8192...2 << 20).contains(mdts.bytes),
      "--mdts must be a power of two from 8KiB to 2MiB")
    try require(
      ccPoll <= 60_000 && (1...60_000).contains(nap),
      "--cc-poll must be at most 60,000 ms, --nap between 1 and 60,000 ms")
    try require(
      (1...Subsystem.namespacesLimit).contains(namespacesMax ?? 1),
      "--namespaces-max must be between 1 and \(Subsystem.namespacesLimit)")
    try require(config != nil || port == nil, "--port needs --config")
    for (option, text, limit) in [("--nqn", nqn, 223), ("--serial", serial, 20)] {
      guard let text else { continue }
      try require(
        (1...limit).contains(text.utf8.count) && text.utf8.allSatisfy { (0x20...0x7e).contains($0) },
        "\(option) must be 1 to \(limit) printable ASCII characters")
    }
    try require(flightRecorder?.bytes ?? .max >= 1 << 20, "--flight-recorder must be at least 1MiB")
    try StateHashInterval.check(stateHashEvery)
  }

  var keeping: ServedEndpoint.Keeping {
    ServedEndpoint.Keeping(bytes: flightRecorder?.bytes, payload: payload == .full, stateHashEvery: stateHashEvery)
  }

  /// The configuration from the file, else from the options.
  /// - Parameter place: identifies the endpoint on this machine without `--id`; nil if it is the only one.
  func configuration(place: String? = nil) throws -> EndpointConfiguration {
    let seed = id ?? place
    var all: EndpointConfiguration
    if let config { all = try read(config, seed: seed) } else { all = try own(seed: seed) }
    all.namespacesMax = namespacesMax
    all.prefaults = prefault
    all.faults = try faults.plan(keepsData: all.keepsData)
    return all
  }

  private func read(_ path: String, seed: String?) throws -> EndpointConfiguration {
    do throws(ConfigurationError) {
      let choice = ConfigurationFile.Choice(port: port, subsystem: subsystem, seed: seed)
      let file = try ConfigurationFile.read(path: path, choice: choice)
      for note in file.notes { complain(note) }
      return file.endpoint
    } catch { throw Failure(lines: error.problems) }
  }

  private func own(seed: String?) throws -> EndpointConfiguration {
    var all = EndpointConfiguration(
      backend: try parseBackend(backend, bytesDefault: size.bytes),
      ioQueuesMax: UInt16(queues))
    if let seed { all.subsystem.identify(by: seed) }
    if let nqn { all.subsystem.nqn = nqn }
    if let serial { all.subsystem.serial = serial }
    all.namespaces[0].blockShift = blockSize.map { UInt8($0.bytes.trailingZeroBitCount) }
    all.subsystem.maxTransferBytes = UInt32(mdts.bytes)
    all.subsystem.fetchesBatches = fetch == .batch
    all.subsystem.configurationPollMs = ccPoll
    all.idleMs = idle
    all.napMs = nap
    return all
  }
}

/// How often a recording contains the hash of the engine's state.
enum StateHashInterval {
  static let help = ArgumentHelp(
    "Record a hash of the engine's state after so many 32-byte slots of its events, for replay --bisect; 1: after every "
      + "pass (default: 4096, or the bytes of the state if it has more)",
    valueName: "slots")

  static func check(_ slots: UInt64?) throws {
    try require((1...1 << 40).contains(slots ?? 1), "--state-hash-every must be between 1 and 2^40")
  }
}
