/// What can be tried with a place in the kernel, best first.
struct ProbePlan {
  let point: ProbePoint
  /// With the names of the programs that go together.
  private(set) var ways: [(attachment: Probes.Attachment, programs: [String])] = []
  /// Why there is no way.
  private(set) var obstacle: String?
  private(set) var missingModule: String?

  var programs: [String] { ways.flatMap(\.programs) }

  /// - Parameter available: names of the programs that there are.
  init(_ point: ProbePoint, _ symbols: KernelSymbols, available: Set<String>, onlyKprobes: Bool) {
    self.point = point
    if let needs = point.needs ?? point.group.needs, !symbols.hasType(needs.type, module: needs.module) {
      missingModule = needs.module
      obstacle = "the module \(needs.module.replacing("_", with: "-")) is not loaded, or has no BTF"
      return
    }
    switch point.place {
    case .tracepoint(let name): ways = [(.tracepoint, ["tp_\(name)"])]
    case .function(let name):
      guard symbols.address(of: name) != nil else {
        obstacle =
          symbols.clone(of: name).map { "the compiler made \($0) of it" }
          ?? "the compiler inlined it, or this kernel has no such function"
        return
      }
      let newer = ["entry_\(name)", "exit_\(name)"].filter(available.contains)
      let older = ["kprobe_\(name)", "kretprobe_\(name)"].filter(available.contains)
      if symbols.describes(name), !onlyKprobes { ways.append((.fentry, newer)) }
      if !older.isEmpty { ways.append((.kprobe, older)) }
      if ways.isEmpty { obstacle = onlyKprobes ? "it needs fentry" : "BTF does not describe it" }
    }
  }
}
