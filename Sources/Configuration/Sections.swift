import Backends
import Device
import Target

/// A port as nvmetcli saves it.
struct PortSection {
  let section: Section
  let number: UInt32?
  /// Transport Type, as `pci` or `tcp`.
  let transport: String?
  let subsystems: [String]

  init(_ section: Section) {
    self.section = section
    number = section.integer("portid", 0...UInt32(UInt16.max))
    if number == nil, !section.has("portid") { section.miss("portid") }
    let address = section.section("addr")
    transport = address?.string("trtype")
    address?.skip(["adrfam", "traddr", "treq", "trsvcid", "tsas"])
    address?.end()
    subsystems = section.strings("subsystems")
    section.skip(["referrals", "ana_groups", "param"])
    section.end()
  }

  var isPCI: Bool { transport == "pci" }
}

/// A subsystem as nvmetcli saves it.
struct SubsystemSection {
  let section: Section
  let nqn: String?
  private var subsystem = Subsystem()
  private var namespaces: [NamespaceConfiguration] = []
  /// Problems of its values, which count only if it is served.
  var problems: Problems { section.problems }

  /// nvmet's defaults for a subsystem.
  private static let ioQueuesDefault: UInt16 = 128

  /// - Parameter seed: derives the endpoint's identity if the file does not set it; nil for the common default.
  init(_ section: Section, seed: String?) {
    self.section = section
    nqn = section.nqn("nqn")
    if let seed { subsystem.identify(by: seed) }
    if let nqn { subsystem.nqn = nqn } else if !section.has("nqn") { section.miss("nqn") }
    subsystem.ioQueuesMax = SubsystemSection.ioQueuesDefault
    if let attributes = section.section("attr") { read(attributes, seed) }
    var seen: Set<UInt32> = []
    for part in section.sections("namespaces", apart: true) {
      if let namespace = SubsystemSection.namespace(part) {
        if !seen.insert(namespace.nsid).inserted { part.complain("nsid", "\(namespace.nsid) stands twice") }
        namespaces.append(namespace)
      }
      section.problems.add(contentsOf: part.problems)
    }
    for part in section.sections("passthru") { SubsystemSection.passthrough(part) }
    section.ignore(["allowed_hosts"])
    section.end()
  }

  /// nvmet's `passthru` passes a whole controller through, including admin commands. Here the engine handles admin
  /// commands.
  private static func passthrough(_ part: Section) {
    let isEnabled = part.flag("enable") ?? false
    let device = part.section("device")
    let path = device?.string("path") ?? ""
    device?.end()
    part.skip(["clear_ids", "admin_timeout", "io_timeout"])
    part.end()
    guard isEnabled else { return }
    part.complain(
      "enable",
      "the controller \(path) cannot be passed through as a whole: give its namespaces, such as /dev/ng0n1, as device.path"
    )
  }

  private mutating func read(_ attributes: Section, _ seed: String?) {
    if let value = attributes.text("serial", limit: 20) { subsystem.serial = value }
    if let value = attributes.text("model", limit: 40) { subsystem.model = value }
    if let value = attributes.text("firmware", limit: 8) { subsystem.firmwareRevision = value }
    if let value = attributes.vendor("vendor_id") { subsystem.vendorID = value }
    if let value = attributes.vendor("subsys_vendor_id") { subsystem.subsystemVendorID = value }
    if let value = attributes.integer("ieee_oui", 0...UInt32(0xff_ffff)) { subsystem.ieeeOUI = value }
    let least = attributes.integer("cntlid_min", 1...UInt16(0xffef)) ?? 1
    let most = attributes.integer("cntlid_max", 1...UInt16(0xffef)) ?? 0xffef
    if least > most { attributes.complain("cntlid_min", "\(least) is more than cntlid_max, \(most)") }
    subsystem.controllerID = least
    if let seed, least <= most { subsystem.deriveController(from: seed, in: least...most) }
    if let value = attributes.integer("qid_max", 1...UInt16.max) {
      subsystem.ioQueuesMax = min(value, Subsystem.ioQueuesLimit)
    }
    if attributes.flag("pi_enable") == true {
      attributes.complain("pi_enable", "protection information is not supported")
    }
    if attributes.flag("allow_any_host") == false { attributes.ignore(["allow_any_host"]) }
    attributes.skip(["version"])
    attributes.end()
  }

  /// A disabled namespace may have any values: nvmetcli saves `(null)` for a path that was never set.
  /// - Returns: nil if it is disabled or invalid.
  static func namespace(_ part: Section) -> NamespaceConfiguration? {
    let nsid = part.integer("nsid", 1...Subsystem.namespacesLimit)
    if nsid == nil, !part.has("nsid") { part.miss("nsid") }
    let isEnabled = part.flag("enable") ?? true
    var backend: BackendConfiguration?
    let device = part.section("device")
    if let path = device?.string("path") {
      do throws(QuantityError) { backend = try parseBackend(path) } catch {
        device?.complain("path", error.description)
      }
    } else {
      part.miss("device.path")
    }
    let uuid = device.flatMap { SubsystemSection.uuid($0, "uuid") }
    let nguid = device.flatMap { SubsystemSection.uuid($0, "nguid") }
    device?.end()
    let isBuffered = part.flag("buffered_io") ?? false
    // nvmetcli's name for what configfs calls resv_enable.
    let reservations = part.section("resv")
    let (saved, own) = (reservations?.flag("enable"), part.flag("resv_enable"))
    reservations?.end()
    let isReadOnly = part.flag("readonly") ?? false
    let blockShift = part.choice("block_size", [("512", UInt8(9)), ("4096", UInt8(12))])
    part.skip(["ana_grpid", "ana"])
    part.ignore(["p2pmem", "revalidate_size"])
    part.end()
    if !isEnabled { part.problems.forget() }
    guard isEnabled, let nsid, var backend else { return nil }
    if case .file(let path, _) = backend { backend = .file(path: path, buffered: isBuffered) }
    var namespace = NamespaceConfiguration(nsid: nsid, backend: backend)
    namespace.uuid = uuid
    namespace.nguid = nguid
    namespace.hasReservations = own ?? saved ?? false
    namespace.isReadOnly = isReadOnly
    namespace.blockShift = blockShift
    return namespace
  }

  /// 32 hexadecimal digits, with or without hyphens; all zeros mean none.
  private static func uuid(_ section: Section, _ key: String) -> NamespaceUUID? {
    guard let text = section.string(key) else { return nil }
    let digits = text.filter { $0 != "-" }
    guard digits.utf8.count == 32, !digits.contains("+"), let high = UInt64(digits.prefix(16), radix: 16),
      let low = UInt64(digits.suffix(16), radix: 16)
    else {
      section.complain(key, "\(text) is not a UUID")
      return nil
    }
    let uuid = NamespaceUUID(high: high, low: low)
    return uuid == .none ? nil : uuid
  }

  func apply(to endpoint: inout EndpointConfiguration) {
    endpoint.subsystem = subsystem
    endpoint.offerInterrupts(msix: subsystem.ioQueuesMax + 1)
    endpoint.namespaces = namespaces
  }
}

/// The PCI endpoint function: configfs's settings, and those of this endpoint alone.
struct FunctionSection {
  let section: Section
  let port: UInt32?
  let subsystem: String?
  private let changes: [(inout EndpointConfiguration) -> Void]

  init(_ section: Section) {
    self.section = section
    var changes: [(inout EndpointConfiguration) -> Void] = []
    func set<Value>(_ value: Value?, _ change: @escaping (inout EndpointConfiguration, Value) -> Void) {
      if let value { changes.append { change(&$0, value) } }
    }
    set(section.vendor("vendorid")) { $0.subsystem.vendorID = $1 }
    set(section.integer("deviceid", 0...UInt16.max)) { $0.deviceID = $1 }
    set(section.vendor("subsys_vendor_id")) { $0.subsystem.subsystemVendorID = $1 }
    set(section.integer("subsys_id", 0...UInt16.max)) { $0.subsystemID = $1 }
    set(section.integer("msix_interrupts", 0...UInt16(2048))) { $0.offerInterrupts(msix: $1, msi: $0.msiInterrupts) }
    set(section.integer("msi_interrupts", 0...UInt16(32))) { $0.offerInterrupts(msix: $0.msixInterrupts, msi: $1) }
    section.skip(["name"])
    section.ignore(["baseclass_code", "subclass_code", "progif_code", "revid"])
    section.ignore(["cache_line_size", "interrupt_pin"])
    let nvme = section.section("nvme")
    port = nvme?.integer("portid", 0...UInt32(UInt16.max))
    subsystem = nvme?.nqn("subsysnqn")
    let mdts = nvme?.integer("mdts_kb", 8...UInt32(2048))
    if let mdts, mdts.nonzeroBitCount != 1 {
      nvme?.complain("mdts_kb", "\(mdts) is not possible: a power of two from 8 to 2048")
    }
    set(mdts) { $0.subsystem.maxTransferBytes = $1 << 10 }
    nvme?.end()
    if let own = section.section("nvmepf") {
      set(own.choice("fetch", [("single", false), ("batch", true)])) { $0.subsystem.fetchesBatches = $1 }
      set(own.integer("cc_poll_ms", 0...UInt32(60_000))) { $0.subsystem.configurationPollMs = $1 }
      set(own.integer("idle_ms", 0...UInt32(3_600_000))) { $0.idleMs = $1 }
      set(own.integer("nap_ms", 1...UInt32(60_000))) { $0.napMs = $1 }
      set(own.integer("queue_entries", 2...UInt32(65536))) { $0.subsystem.queueEntriesMax = $1 }
      set(own.integer("arbitration_burst", 0...UInt8(7))) { $0.subsystem.arbitrationBurst = $1 }
      set(own.integer("coalescing_threshold", 1...UInt16(256))) { $0.subsystem.coalescingThreshold = $1 }
      let coalescing = own.integer("coalescing_time_us", 0...UInt32(25_500))
      if let coalescing, coalescing % 100 != 0 {
        own.complain("coalescing_time_us", "\(coalescing) is not possible: a multiple of 100")
      }
      set(coalescing) { $0.subsystem.coalescingTime = UInt8($1 / 100) }
      set(own.integer("core", 0...Int(4095))) { $0.core = $1 }
      own.end()
    }
    section.end()
    self.changes = changes
  }

  func apply(to endpoint: inout EndpointConfiguration) { for change in changes { change(&endpoint) } }
}

extension Section {
  /// A PCI vendor identifier; 0, the value of an unconfigured target, means none.
  fileprivate func vendor(_ key: String) -> UInt16? {
    integer(key, 0...UInt16.max).flatMap { $0 == 0 ? nil : $0 }
  }
}
