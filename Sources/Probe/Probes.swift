import CBPF
import Glibc

/// Probes in the kernel, attached while this object lives. They emit nothing until a `KernelRecorder` starts them. The
/// kernel removes them when the process ends, however it ends. Use by one thread at a time, except
/// `emitForMeasurement`.
public final class Probes: @unchecked Sendable {
  /// How a probe point is attached, or why it is not.
  public enum Attachment: Equatable, Sendable {
    case fentry, kprobe, tracepoint
    case none(why: String)
  }

  /// A probe point and how it is attached.
  public struct Point: Sendable {
    public let name: String
    public let group: ProbeGroup
    /// What it adds to a trace.
    public let gives: String
    public internal(set) var attachment: Attachment
    /// The module to load for it.
    let missingModule: String?

    public var isAttached: Bool { if case .none = attachment { false } else { true } }
  }

  /// Cost of a program, counted by the kernel.
  public struct Cost: Sendable {
    public let name: String
    /// How often it ran.
    public let runs: UInt64
    /// Total run time.
    public let ns: UInt64
  }

  /// What to probe, and how.
  public struct Options: Sendable {
    public var groups = Set(ProbeGroup.allCases)
    /// Record only this queue; nil for all.
    public var qid: UInt16?
    /// Probe functions with kprobes even if fentry is available.
    public var onlyKprobes = false
    /// Size of each CPU's ring buffer in bytes: a power of two of at least a page; nil for the default.
    public var bufferBytes: Int?
    public init() {}
  }

  public private(set) var points: [Point]
  /// Tracepoints of DMA engines in this kernel. Linux up to 7.3 has none, so nothing records them.
  public private(set) var engineTracepoints: [String] = []
  private let object: ProbeObject
  private var links: [Link] = []
  private var statistics: Int32 = -1
  /// By program: the origin of its events.
  private var roles: [String: Origin.Role] = [:]
  /// Counts of detached links: how often their probes were not run.
  private var notRunByFormer: [Origin.Role: UInt64] = [:]

  private struct Link {
    let pointer: OpaquePointer
    let role: Origin.Role?
    let isKprobe: Bool
  }

  /// - Throws: if nothing can be recorded, with the reason.
  public init(_ options: Options = Options()) throws(ProbeError) {
    LibraryLog.listen()
    points = []
    let wanted = ProbePoint.all.filter { options.groups.contains($0.group) }
    let symbols = KernelSymbols(
      looking: Set(wanted.map(\.place.name) + KernelSymbols.workFunctions),
      modules: Set(wanted.compactMap { ($0.needs ?? $0.group.needs)?.module } + ["nvmet", "nvme"]))
    defer { symbols.close() }
    guard symbols.hasTypes else { throw ProbeError(Probes.withoutTypes) }
    let available = try ProbeObject.programNames()
    var plans = wanted.map { ProbePlan($0, symbols, available: available, onlyKprobes: options.onlyKprobes) }
    object = try Probes.load(&plans, symbols, options)
    engineTracepoints = symbols.engineTracepoints
    for plan in plans {
      guard let role = plan.point.group.role else { continue }
      for program in plan.programs { roles[program] = role }
    }
    attach(plans)
  }

  deinit {
    detach()
    if statistics >= 0 { close(statistics) }
  }

  static func privilege(lacking: String) -> String {
    "probing the kernel needs the capabilities CAP_BPF and CAP_PERFMON, CAP_SYS_ADMIN to read the types of modules and "
      + "CAP_SYSLOG for their addresses; this process lacks \(lacking): run it as root"
  }

  private static var withoutTypes: String {
    if access("/sys/kernel/btf/vmlinux", R_OK) == 0, let lacking = Capability.lacking {
      return privilege(lacking: lacking)
    }
    return "this kernel has no BTF (/sys/kernel/btf/vmlinux), which is required to read its structures: use a "
      + "kernel with CONFIG_DEBUG_INFO_BTF=y"
  }

  /// Start emitting events.
  func start() throws(ProbeError) { try object.record(true) }

  /// Stop emitting events.
  func pause() { try? object.record(false) }

  /// Detach the probes. The content of the rings stays readable.
  public func detach() {
    notRunByFormer = kprobesNotRun()
    for link in links { bpf_link__destroy(link.pointer) }
    links = []
  }

  // MARK: Loading

  /// Load the programs of the plans. A program that the kernel refuses costs only one way to attach.
  private static func load(
    _ plans: inout [ProbePlan], _ symbols: KernelSymbols, _ options: Options
  ) throws(ProbeError) -> ProbeObject {
    let cpus = possibleCPUs
    var refused: Set<String> = []
    while true {
      let programs = Set(plans.flatMap(\.programs))
      guard !programs.isEmpty else { throw ProbeError(nothing(plans)) }
      do throws(ProbeObject.Failure) {
        return try ProbeObject(
          ProbeObject.Options(
            programs: programs,
            constants: [
              ("only_qid", UInt64(options.qid.map(UInt32.init) ?? .max)),
              ("exec_iod_work", symbols.address(of: KernelSymbols.workFunctions[0]) ?? 0),
              ("cq_work", symbols.address(of: KernelSymbols.workFunctions[1]) ?? 0),
            ], cpus: cpus, bufferBytes: options.bufferBytes ?? (cpus <= 16 ? 8 << 20 : 1 << 20)))
      } catch {
        guard case .refused(let refusal) = error, programs.contains(refusal.program),
          refused.insert(refusal.program).inserted
        else { throw error.problem }
        for index in plans.indices { plans[index].drop(refusal.program, because: refusal.why) }
      }
    }
  }

  /// Why there is nothing to load.
  private static func nothing(_ plans: [ProbePlan]) -> String {
    if let lacking = Capability.lacking { return privilege(lacking: lacking) }
    if !hasModules, plans.contains(where: { $0.missingModule != nil }) {
      return "this kernel has neither an NVMe target nor a driver to record, and no modules that modprobe could load: "
        + "another kernel is needed"
    }
    return "nothing that was requested can be recorded: "
      + (remedy(plans.compactMap(\.missingModule)) ?? plans.lazy.compactMap(\.obstacle).first
        ?? "none of its functions can be probed")
  }

  private static var possibleCPUs: Int { Int(max(libbpf_num_possible_cpus(), 1)) }

  /// The command after which more of a group can be recorded; nil if no command helps.
  public func remedy(_ group: ProbeGroup) -> String? {
    let missing = points.filter { $0.group == group && !$0.isAttached }
    if missing.isEmpty { return nil }
    if let command = Probes.remedy(missing.compactMap(\.missingModule)) { return command }
    let isHidden = group == .work && missing.allSatisfy { $0.missingModule == nil }
    return isHidden && Capability.lacking == nil ? "sysctl kernel.kptr_restrict=0" : nil
  }

  /// Whether the running kernel has modules.
  private static var hasModules: Bool { access("/lib/modules/\(kernelRelease())", F_OK) == 0 }

  /// The command that loads the modules useful on this machine; nil if there are none.
  private static func remedy(_ missing: [String]) -> String? {
    var modules: [String] = []
    for module in missing where module != "nvmet_pci_epf" || KernelSymbols.hasEndpointController {
      let name = module == "nvme_core" ? "nvme" : module.replacing("_", with: "-")
      if !modules.contains(name) { modules.append(name) }
    }
    if modules.isEmpty || !hasModules { return nil }
    return "modprobe \(modules.count > 1 ? "-a " : "")\(modules.joined(separator: " "))"
  }

  // MARK: Attaching

  private func attach(_ plans: [ProbePlan]) {
    for plan in plans {
      var point = Point(
        name: plan.point.place.name, group: plan.point.group, gives: plan.point.gives,
        attachment: .none(why: plan.obstacle ?? ""), missingModule: plan.missingModule)
      for (attachment, names) in plan.ways {
        let made = names.map { object.programs[$0].flatMap { bpf_program__attach($0) } }
        let failure = errno
        guard made.allSatisfy({ $0 != nil }) else {
          for case let link? in made { bpf_link__destroy(link) }
          point.attachment = .none(why: "the kernel refuses it: \(String(cString: strerror(failure)))")
          continue
        }
        links += made.map { Link(pointer: $0!, role: plan.point.group.role, isKprobe: attachment == .kprobe) }
        point.attachment = attachment
        break
      }
      points.append(point)
    }
  }

  // MARK: What they cost

  /// Let the kernel count the cost of probes. Counting itself costs some 20 ns per run.
  public func countCosts() { statistics = bpf_enable_stats(BPF_STATS_RUN_TIME) }

  /// Cost of every probe since `countCosts`; omits probes that never ran.
  public func costs() -> [Cost] {
    object.programs.sorted { $0.key < $1.key }.compactMap { name, program in
      guard let info = information(on: program), info.run_cnt > 0 else { return nil }
      return Cost(name: name, runs: info.run_cnt, ns: info.run_time_ns)
    }
  }

  /// How often the kernel did not run a probe of the target, or of the host, because an interrupt hit the same probe
  /// while it ran, or because too many threads were in the function. No ring buffer counts these lost events.
  func notRun() -> [Origin.Role: UInt64] {
    var counts = links.isEmpty ? notRunByFormer : kprobesNotRun()
    for (name, program) in object.programs {
      if let role = roles[name], let misses = information(on: program)?.recursion_misses {
        counts[role, default: 0] += misses
      }
    }
    return counts
  }

  private func kprobesNotRun() -> [Origin.Role: UInt64] {
    var counts: [Origin.Role: UInt64] = [:]
    for link in links where link.isKprobe {
      if let role = link.role { counts[role, default: 0] += Probes.notRun(link.pointer) }
    }
    return counts
  }

  /// The kernel's count for a kprobe, available since 6.7. Not every <linux/bpf.h> declares it: in `struct
  /// bpf_link_info` as 64-bit words, the third holds the kind of perf event and the seventh the count.
  private static func notRun(_ link: OpaquePointer) -> UInt64 {
    var words = [UInt64](repeating: 0, count: 8)
    var length = UInt32(words.count * 8)
    guard bpf_obj_get_info_by_fd(bpf_link__fd(link), &words, &length) == 0, length >= 56 else { return 0 }
    let (linkIsPerfEvent, kind) = (UInt32(truncatingIfNeeded: words[0]) == 7, UInt32(truncatingIfNeeded: words[2]))
    return linkIsPerfEvent && (kind == 3 || kind == 4) ? words[6] : 0
  }

  private func information(on program: OpaquePointer) -> bpf_prog_info? {
    var info = bpf_prog_info()
    var length = UInt32(MemoryLayout<bpf_prog_info>.size)
    return bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &length) == 0 ? info : nil
  }

  /// Load only the program that emits events for a measurement.
  public init(measuring bufferBytes: Int) throws(ProbeError) {
    LibraryLog.listen()
    points = []
    do throws(ProbeObject.Failure) {
      object = try ProbeObject(
        ProbeObject.Options(programs: [Probes.measure], cpus: Probes.possibleCPUs, bufferBytes: bufferBytes))
    } catch { throw error.problem }
  }

  /// Emit `measuredEvents` events on this thread's CPU.
  public func emitForMeasurement() {
    var options = bpf_test_run_opts()
    options.sz = MemoryLayout<bpf_test_run_opts>.size
    _ = bpf_prog_test_run_opts(bpf_program__fd(object.programs[Probes.measure]), &options)
  }
  /// Events of one measurement.
  public static let measuredEvents = 1000
  private static let measure = "measure"

  // MARK: What they say

  var ringDescriptors: [Int32] { object.rings }

  /// The NQN and the identifier of a controller; nil if it has not reported them, or if another controller now has its
  /// number.
  func name(of origin: Origin) -> (nqn: String, cntlid: UInt16)? {
    // struct name: the NQN, the identifier, the generation; then the owner of the name.
    var bytes = [UInt8](repeating: 0, count: 248)
    let key = UInt32(origin.role.rawValue) << 16 | UInt32(origin.controller)
    guard object.read("names", key: key, into: &bytes), bytes[0] != 0, bytes[226] == origin.generation else {
      return nil
    }
    return (
      String(decoding: bytes[..<224].prefix { $0 != 0 }, as: UTF8.self), UInt16(bytes[224]) | UInt16(bytes[225]) << 8
    )
  }

  /// Events lost because the ring buffer was full, per CPU.
  func lost() -> [UInt64] {
    var bytes = [UInt8](repeating: 0, count: 8 * object.rings.count)
    guard object.read("lost", key: 0, into: &bytes) else { return object.rings.map { _ in 0 } }
    return bytes.withUnsafeBytes { bytes in
      object.rings.indices.map { bytes.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self) }
    }
  }
}

/// As printed by `uname -r`.
public func kernelRelease() -> String {
  var name = utsname()
  uname(&name)
  return withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}
