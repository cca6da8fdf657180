import CBPF
import Glibc

/// Functions and types of the running kernel: /proc/kallsyms and BTF.
struct KernelSymbols {
  /// Functions that can be probed, with their addresses (0 if the kernel hides them).
  private var functions: [String: UInt64] = [:]
  /// Functions that exist only as compiler-made clones, by their names in the source.
  private var clones: [String: String] = [:]
  /// Tracepoints of DMA engines.
  private(set) var engineTracepoints: [String] = []
  private let kernel: OpaquePointer?
  private var modules: [String: OpaquePointer] = [:]

  // Kinds of BTF (Documentation/bpf/btf.rst), which the headers have both as macros and as constants.
  private static let structure: UInt32 = 4
  private static let function: UInt32 = 12

  /// - Parameter names: the functions to look up.
  init(looking names: Set<String>, modules moduleNames: Set<String>) {
    kernel = btf__load_vmlinux_btf()
    if let kernel {
      for name in moduleNames {
        if let btf = btf__load_module_btf(name, kernel) { modules[name] = btf }
      }
    }
    guard let file = fopen("/proc/kallsyms", "r") else { return }
    defer { fclose(file) }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    while getline(&line, &capacity, file) > 0 {
      // "ffffffffa0000000 t name\t[module]"
      let words = String(cString: line!).split(whereSeparator: \.isWhitespace)
      guard words.count >= 3 else { continue }
      if words[2].hasPrefix(KernelSymbols.tracepoint) { addTracepoint(words[2]) }
      guard words[1] == "t" || words[1] == "T" else { continue }
      let name = String(words[2])
      if names.contains(name) {
        functions[name] = UInt64(words[0], radix: 16) ?? 0
      } else if let dot = name.firstIndex(of: "."), names.contains(String(name[..<dot])) {
        clones[String(name[..<dot])] = name
      }
    }
  }

  private static let tracepoint = "__tracepoint_"

  private mutating func addTracepoint(_ symbol: Substring) {
    let name = symbol.dropFirst(KernelSymbols.tracepoint.count)
    if ["dmaengine", "dma_engine", "dw_edma", "dw_hdma"].contains(where: name.hasPrefix) {
      engineTracepoints.append(String(name))
    }
  }

  func close() {
    for btf in modules.values { btf__free(btf) }
    if let kernel { btf__free(kernel) }
  }

  var hasTypes: Bool { kernel != nil }

  func address(of function: String) -> UInt64? { functions[function] }
  func clone(of function: String) -> String? { clones[function] }

  /// Whether the module or the kernel has a structure of that name.
  func hasType(_ name: String, module: String) -> Bool { has(name, KernelSymbols.structure, module) }

  /// How BTF describes a function; nil if it does not, which rules out fentry.
  func prototype(of function: String) -> Prototype? {
    for btf in [kernel].compactMap({ $0 }) + modules.values {
      let id = btf__find_by_name_kind(btf, function, KernelSymbols.function)
      guard id > 0, let entry = btf__type_by_id(btf, UInt32(id)), let type = btf__type_by_id(btf, entry.pointee.type)
      else { continue }
      return Prototype(Int(type.pointee.info & 0xffff), returns: type.pointee.type != 0)
    }
    return nil
  }

  /// The work items whose wait from queued to running is timed.
  static let workFunctions = ["nvmet_pci_epf_exec_iod_work", "nvmet_pci_epf_cq_work"]

  func hasAddresses(of functions: [String]) -> Bool { functions.allSatisfy { address(of: $0) ?? 0 != 0 } }

  /// Whether the module is loaded or built in.
  func isLoaded(_ module: String) -> Bool { modules[module] != nil || access("/sys/module/\(module)", F_OK) == 0 }

  /// Whether this machine has a PCI endpoint controller.
  static var hasEndpointController: Bool {
    guard let directory = opendir("/sys/class/pci_epc") else { return false }
    defer { closedir(directory) }
    while let entry = readdir(directory) { if entry.pointee.d_name.0 != 0x2e { return true } }
    return false
  }

  /// Why the types of a module cannot be read.
  func lack(of module: String) -> String {
    let name = module.replacing("_", with: "-")
    if !isLoaded(module) {
      let isInVain = module == "nvmet_pci_epf" && !KernelSymbols.hasEndpointController
      return "the module \(name) is not loaded" + (isInVain ? ", and this machine has no PCI endpoint controller" : "")
    }
    if let lacking = Capability.lacking { return "the types of the module \(name) cannot be read without \(lacking)" }
    return access("/sys/kernel/btf/\(module)", F_OK) == 0
      ? "the module \(name) has no such types" : "the module \(name) has no BTF (CONFIG_DEBUG_INFO_BTF_MODULES)"
  }

  private func has(_ name: String, _ kind: UInt32, _ module: String) -> Bool {
    [kernel, modules[module]].contains { $0.map { btf__find_by_name_kind($0, name, kind) > 0 } ?? false }
  }
}
