import CBPF
import Glibc

/// What the running kernel says of its functions and types: /proc/kallsyms and BTF.
struct KernelSymbols {
  /// Functions that can be probed, with their addresses (0 where the kernel hides them).
  private var functions: [String: UInt64] = [:]
  /// Functions that exist only as clones that the compiler made, by the name that they have in the source.
  private var clones: [String: String] = [:]
  private let kernel: OpaquePointer?
  private var modules: [String: OpaquePointer] = [:]

  // Kinds of BTF (Documentation/bpf/btf.rst), which the headers have both as macros and as constants.
  private static let structure: UInt32 = 4
  private static let function: UInt32 = 12

  /// - Parameter names: of functions that are of interest.
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
      guard words.count >= 3, words[1] == "t" || words[1] == "T" else { continue }
      let name = String(words[2])
      if names.contains(name) {
        functions[name] = UInt64(words[0], radix: 16) ?? 0
      } else if let dot = name.firstIndex(of: "."), names.contains(String(name[..<dot])) {
        clones[String(name[..<dot])] = name
      }
    }
  }

  func close() {
    for btf in modules.values { btf__free(btf) }
    if let kernel { btf__free(kernel) }
  }

  var hasTypes: Bool { kernel != nil }

  func address(of function: String) -> UInt64? { functions[function] }
  func clone(of function: String) -> String? { clones[function] }

  /// Is there a structure of that name, in the module or built into the kernel?
  func hasType(_ name: String, module: String) -> Bool { has(name, KernelSymbols.structure, module) }

  /// Does BTF describe a function of that name, so that fentry can be tried?
  func describes(_ function: String) -> Bool {
    ([kernel].compactMap { $0 } + modules.values).contains {
      btf__find_by_name_kind($0, function, KernelSymbols.function) > 0
    }
  }

  private func has(_ name: String, _ kind: UInt32, _ module: String) -> Bool {
    [kernel, modules[module]].contains { $0.map { btf__find_by_name_kind($0, name, kind) > 0 } ?? false }
  }
}
