import CBPF
import Glibc

/// Probes in the kernel, attached while this object lives. The kernel takes them away with the process, however it ends.
/// One thread at a time, but for `emitForMeasurement`.
public final class Probes: @unchecked Sendable {
  /// How a place in the kernel is looked at, or why it is not.
  public enum Attachment: Equatable, Sendable {
    case fentry, kprobe, tracepoint
    case none(why: String)
  }

  public struct Point: Sendable {
    public let name: String
    public let group: ProbeGroup
    /// What a trace has by it.
    public let gives: String
    public internal(set) var attachment: Attachment
  }

  /// What a program cost, by the kernel's own count.
  public struct Cost: Sendable {
    public let name: String
    public let runs: UInt64
    public let ns: UInt64
  }

  public struct Options: Sendable {
    public var groups = Set(ProbeGroup.allCases)
    /// Only this queue; nil for all.
    public var qid: UInt16?
    /// Functions by kprobes even where fentry is to be had.
    public var onlyKprobes = false
    /// Bytes of each CPU's ring buffer: a power of two of at least a page; nil to choose.
    public var bufferBytes: Int?
    public init() {}
  }

  public private(set) var points: [Point]
  let cpus: Int
  private let object: OpaquePointer
  private var links: [OpaquePointer] = []
  private var rings: [Int32] = []
  private var statistics: Int32 = -1
  private var programs: [OpaquePointer] = []
  /// Of each program: whose events it emits; nil where it emits none.
  private var roles: [Origin.Role?] = []

  /// - Throws: when nothing can be recorded, with the reason.
  public init(_ options: Options = Options()) throws(ProbeError) {
    libbpf_set_print(LibraryLog.take)
    points = []
    cpus = Int(max(libbpf_num_possible_cpus(), 1))
    let wanted = ProbePoint.all.filter { options.groups.contains($0.group) }
    let names = Set(wanted.map(\.place.name))
    let symbols = KernelSymbols(
      looking: names, modules: Set(wanted.compactMap { ($0.needs ?? $0.group.needs)?.module } + ["nvmet", "nvme"]))
    defer { symbols.close() }
    guard symbols.hasTypes else {
      throw ProbeError(
        geteuid() == 0
          ? "this kernel has no BTF (/sys/kernel/btf/vmlinux), without which its structures cannot be read: take a "
            + "kernel with CONFIG_DEBUG_INFO_BTF=y"
          : Probes.privilege)
    }
    let bytes = base64Bytes(bpfObject)
    let opened = bytes.withUnsafeBytes { bpf_object__open_mem($0.baseAddress!, $0.count, nil) }
    guard let opened else { throw ProbeError("the probes that were built into this program cannot be opened") }
    object = opened
    // From here on a failure ends in deinit.
    let available = Set(allPrograms().map { String(cString: bpf_program__name($0)) })
    let plans = wanted.map { ProbePlan($0, symbols, available: available, onlyKprobes: options.onlyKprobes) }
    try load(plans, symbols, options)
    attach(plans)
  }

  deinit {
    detach()
    bpf_object__close(object)
    for ring in rings { close(ring) }
    if statistics >= 0 { close(statistics) }
  }

  static let privilege =
    "probing the kernel needs the capabilities CAP_BPF and CAP_PERFMON, CAP_SYS_ADMIN to read the types of modules and "
    + "CAP_SYSLOG for their addresses: run it as root"

  /// Take the probes away. What the rings hold stays readable.
  public func detach() {
    for link in links { bpf_link__destroy(link) }
    links = []
  }

  // MARK: Loading

  private func load(_ plans: [ProbePlan], _ symbols: KernelSymbols, _ options: Options) throws(ProbeError) {
    let needed = Set(plans.flatMap(\.programs))
    for program in allPrograms() {
      let isNeeded = needed.contains(String(cString: bpf_program__name(program)))
      bpf_program__set_autoload(program, isNeeded)
      if isNeeded {
        programs.append(program)
        let group = plans.first { $0.programs.contains(String(cString: bpf_program__name(program))) }?.point.group
        roles.append(group == .work ? nil : group == .host || group == .block ? .host : .target)
      }
    }
    guard !programs.isEmpty else {
      throw ProbeError("nothing of what is to be recorded is there: " + Probes.missing(plans))
    }
    guard let data = bpf_object__find_map_by_name(object, ".rodata") else {
      throw ProbeError("the probes that were built into this program are not whole")
    }
    var size = 0
    if let initial = bpf_map__initial_value(data, &size) {
      var constants = Array(UnsafeRawBufferPointer(start: initial, count: size))
      set("only_qid", options.qid.map(UInt32.init) ?? .max, in: &constants)
      set("exec_iod_work", symbols.address(of: "nvmet_pci_epf_exec_iod_work") ?? 0, in: &constants)
      set("cq_work", symbols.address(of: "nvmet_pci_epf_cq_work") ?? 0, in: &constants)
      _ = bpf_map__set_initial_value(data, constants, size)
    }
    try loadMaps(options.bufferBytes ?? (cpus <= 16 ? 8 << 20 : 1 << 20))
  }

  private func loadMaps(_ bufferBytes: Int) throws(ProbeError) {
    guard let rings = bpf_object__find_map_by_name(object, "rings") else {
      throw ProbeError("the probes that were built into this program are not whole")
    }
    bpf_map__set_max_entries(rings, UInt32(cpus))
    let error = bpf_object__load(object)
    guard error == 0 else { throw ProbeError(Probes.loadFailure(-error)) }
    try makeRings(rings, bufferBytes)
  }

  private func allPrograms() -> [OpaquePointer] {
    var programs: [OpaquePointer] = []
    while let next = bpf_object__next_program(object, programs.last) { programs.append(next) }
    return programs
  }

  /// Set a constant of the programs, where the object's BTF says that it lies.
  private func set<Value: FixedWidthInteger>(_ name: String, _ value: Value, in constants: inout [UInt8]) {
    guard let btf = bpf_object__btf(object) else { return }
    let section = btf__find_by_name_kind(btf, ".rodata", 15)  // BTF_KIND_DATASEC
    guard section > 0, let type = btf__type_by_id(btf, UInt32(section)) else { return }
    let count = Int(type.pointee.info & 0xffff)
    let variables = UnsafeRawPointer(type + 1).assumingMemoryBound(to: btf_var_secinfo.self)
    for variable in UnsafeBufferPointer(start: variables, count: count) {
      guard let entry = btf__type_by_id(btf, variable.type),
        let text = btf__name_by_offset(btf, entry.pointee.name_off),
        String(cString: text) == name, Int(variable.offset) + MemoryLayout<Value>.size <= constants.count
      else { continue }
      withUnsafeBytes(of: value) { bytes in
        for (index, byte) in bytes.enumerated() { constants[Int(variable.offset) + index] = byte }
      }
    }
  }

  private func makeRings(_ map: OpaquePointer, _ bytes: Int) throws(ProbeError) {
    for cpu in 0..<UInt32(cpus) {
      var ring = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "nvmepf_ring", 0, 0, UInt32(bytes), nil)
      guard ring >= 0 else {
        throw ProbeError("no ring buffer of \(bytes) bytes for CPU \(cpu): \(String(cString: strerror(errno)))")
      }
      rings.append(ring)
      var key = cpu
      guard bpf_map_update_elem(bpf_map__fd(map), &key, &ring, 0) == 0 else {
        throw ProbeError("CPU \(cpu) cannot be given its ring buffer: \(String(cString: strerror(errno)))")
      }
    }
  }

  private static func loadFailure(_ error: Int32) -> String {
    // Then the helpers that read kernel memory are not there, which looks like anything.
    if let lockdown = try? readText("/sys/kernel/security/lockdown"), lockdown.contains("[confidentiality]") {
      return
        "the kernel is locked down (confidentiality), which forbids probes to read it: boot with lockdown=integrity or less"
    }
    switch error {
    case EPERM: return privilege
    case ENOMEM: return "the kernel has no memory for the probes' maps: a smaller --kernel-buffer may help"
    default:
      return "the kernel refuses the probes: \(String(cString: strerror(error)))"
        + (LibraryLog.first.withLock { $0 }.map { " (\($0))" } ?? "")
    }
  }

  // MARK: Attaching

  private func attach(_ plans: [ProbePlan]) {
    let byName = Dictionary(uniqueKeysWithValues: programs.map { (String(cString: bpf_program__name($0)), $0) })
    for plan in plans {
      var point = Point(
        name: plan.point.place.name, group: plan.point.group, gives: plan.point.gives,
        attachment: .none(why: plan.obstacle ?? ""))
      var failure: Int32 = 0
      for (attachment, names) in plan.ways {
        let made = names.map { byName[$0].flatMap { bpf_program__attach($0) } }
        failure = errno
        guard made.allSatisfy({ $0 != nil }) else {
          for case let link? in made { bpf_link__destroy(link) }
          point.attachment = .none(why: "the kernel refuses it: \(String(cString: strerror(failure)))")
          continue
        }
        links += made.compactMap { $0 }
        point.attachment = attachment
        break
      }
      points.append(point)
    }
  }

  // MARK: What they cost

  /// Let the kernel count what the probes take. That itself costs some 20 ns a run.
  public func countCosts() { statistics = bpf_enable_stats(BPF_STATS_RUN_TIME) }

  /// What every probe has cost since `countCosts`; nothing for those that never ran.
  public func costs() -> [Cost] {
    programs.compactMap { program in
      guard let info = information(on: program), info.run_cnt > 0 else { return nil }
      return Cost(name: String(cString: bpf_program__name(program)), runs: info.run_cnt, ns: info.run_time_ns)
    }
  }

  /// How often the kernel did not run a probe of the target, or of the host, because an interrupt had come while the
  /// same probe ran: events that no ring buffer knows of.
  func skipped() -> [Origin.Role: UInt64] {
    var counts: [Origin.Role: UInt64] = [.target: 0, .host: 0]
    for (program, role) in zip(programs, roles) {
      if let role, let misses = information(on: program)?.recursion_misses { counts[role]! += misses }
    }
    return counts
  }

  private func information(on program: OpaquePointer) -> bpf_prog_info? {
    var info = bpf_prog_info()
    var length = UInt32(MemoryLayout<bpf_prog_info>.size)
    return bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &length) == 0 ? info : nil
  }

  /// Load the program that emits events for a measurement, and nothing else.
  public init(measuring bufferBytes: Int) throws(ProbeError) {
    libbpf_set_print(LibraryLog.take)
    points = []
    cpus = Int(max(libbpf_num_possible_cpus(), 1))
    let bytes = base64Bytes(bpfObject)
    let opened = bytes.withUnsafeBytes { bpf_object__open_mem($0.baseAddress!, $0.count, nil) }
    guard let opened else { throw ProbeError("the probes that were built into this program cannot be opened") }
    object = opened
    for program in allPrograms() {
      let isMeasure = String(cString: bpf_program__name(program)) == "measure"
      bpf_program__set_autoload(program, isMeasure)
      if isMeasure { programs.append(program) }
    }
    try loadMaps(bufferBytes)
    countCosts()
  }

  /// Emit `measuredEvents` events on the CPU that this thread runs on.
  public func emitForMeasurement() {
    var options = bpf_test_run_opts()
    options.sz = MemoryLayout<bpf_test_run_opts>.size
    _ = bpf_prog_test_run_opts(bpf_program__fd(programs[0]), &options)
  }
  public static let measuredEvents = 1000

  // MARK: What they say

  var ringDescriptors: [Int32] { rings }

  /// The NQN of the subsystem that a controller belongs to, and its identifier; nil where it has not said.
  func name(of origin: Origin) -> (nqn: String, cntlid: UInt16)? {
    guard let map = bpf_object__find_map_by_name(object, "names") else { return nil }
    var key = UInt32(origin.role.rawValue) << 16 | UInt32(origin.controller)
    // struct name: the NQN, then the identifier.
    var bytes = [UInt8](repeating: 0, count: 232)
    guard bpf_map_lookup_elem(bpf_map__fd(map), &key, &bytes) == 0 else { return nil }
    return (
      String(decoding: bytes[..<224].prefix { $0 != 0 }, as: UTF8.self), UInt16(bytes[224]) | UInt16(bytes[225]) << 8
    )
  }

  /// Events that each CPU had no room for.
  func lost() -> [UInt64] {
    var counts = [UInt64](repeating: 0, count: cpus)
    guard let map = bpf_object__find_map_by_name(object, "lost") else { return counts }
    var key: UInt32 = 0
    _ = bpf_map_lookup_elem(bpf_map__fd(map), &key, &counts)
    return counts
  }

  static func missing(_ plans: [ProbePlan]) -> String {
    var modules: [String] = []
    for plan in plans {
      if let module = plan.missingModule, !modules.contains(module) { modules.append(module) }
    }
    return modules.isEmpty
      ? "none of its functions can be probed"
      : "modprobe \(modules.map { $0.replacing("_", with: "-") }.joined(separator: " "))"
  }
}

func readText(_ path: String) throws -> String {
  guard let file = fopen(path, "r") else { throw ProbeError("cannot read \(path)") }
  defer { fclose(file) }
  var bytes = [UInt8](repeating: 0, count: 4096)
  let count = fread(&bytes, 1, bytes.count, file)
  return String(decoding: bytes[..<count], as: UTF8.self)
}
