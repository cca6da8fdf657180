/// The ways to attach to a probe point, best first.
struct ProbePlan {
  let point: ProbePoint
  /// Each with the names of its programs.
  private(set) var ways: [(attachment: Probes.Attachment, programs: [String])] = []
  /// Why there is none.
  private(set) var obstacle: String?
  private(set) var missingModule: String?

  var programs: [String] { ways.flatMap(\.programs) }

  /// - Parameter available: names of the programs in the object.
  init(_ point: ProbePoint, _ symbols: KernelSymbols, available: Set<String>, onlyKprobes: Bool) {
    self.point = point
    if let needs = point.needs ?? point.group.needs, !symbols.hasType(needs.type, module: needs.module) {
      if !symbols.isLoaded(needs.module) { missingModule = needs.module }
      obstacle = symbols.lack(of: needs.module)
      return
    }
    switch point.place {
    case .tracepoint(let name):
      if point.group == .work, !symbols.hasAddresses(of: KernelSymbols.workFunctions) {
        obstacle =
          "the kernel hides the addresses that identify work items (kernel.kptr_restrict, or no CAP_SYSLOG)"
      } else {
        ways = [(.tracepoint, ["tp_\(name)"])]
      }
    case .function(let name): planFunction(name, symbols, available, onlyKprobes)
    }
  }

  private mutating func planFunction(
    _ name: String, _ symbols: KernelSymbols, _ available: Set<String>, _ onlyKprobes: Bool
  ) {
    guard symbols.address(of: name) != nil else {
      obstacle =
        symbols.clone(of: name).map { "the compiler replaced it by \($0)" }
        ?? (point.mayBeInlined
          ? "the compiler inlined it, or this kernel has no such function" : "this kernel has no such function")
      return
    }
    let found = symbols.prototype(of: name)
    switch Prototype.choose(point.prototypes, found: found) {
    case .obstacle(let why): obstacle = why
    case .programs(let suffix):
      let newer = ["entry_\(name)\(suffix)", "exit_\(name)\(suffix)"].filter(available.contains)
      let older = ["kprobe_\(name)\(suffix)", "kretprobe_\(name)\(suffix)"].filter(available.contains)
      if found != nil, !onlyKprobes { ways.append((.fentry, newer)) }
      if !older.isEmpty { ways.append((.kprobe, older)) }
      if ways.isEmpty { obstacle = onlyKprobes ? "it needs fentry" : "BTF does not describe it" }
    }
  }

  /// The kernel refuses a program: remove the ways that use it.
  mutating func drop(_ program: String, because why: String) {
    guard ways.contains(where: { $0.programs.contains(program) }) else { return }
    ways.removeAll { $0.programs.contains(program) }
    if ways.isEmpty { obstacle = "the kernel refuses its program: \(why)" }
  }
}
