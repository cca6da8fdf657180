import Foundation
import Testing

/// The modules of docs/architecture.md, and what each may import.
@Suite("Modules")
struct ModuleTests {
  /// A row of the page's table. `imports` is nil where a module may import all others.
  private static func table() throws -> [(module: String, imports: Set<String>?)] {
    let lines = try Package.text("docs/architecture.md").split(separator: "\n")
    let begin = try #require(lines.firstIndex { $0.hasPrefix("| module |") })
    return lines[(begin + 2)...].prefix { $0.hasPrefix("|") }.map { line in
      let cells = line.split(separator: "|")
      let imports = cells.last!.trimmed == "all" ? nil : Set(cells.last!.quoted.map(String.init))
      return (String(cells[0].quoted.first ?? ""), imports)
    }
  }

  private static func imports(of module: String) -> Set<String> {
    var all: Set<String> = []
    for file in Package.sources where file.module == module {
      for line in file.lines {
        if let module = line.code.importedModule { all.insert(String(module)) }
      }
    }
    return all
  }

  @Test("the table of the page lists every module once")
  func isComplete() throws {
    let modules = try ModuleTests.table().map(\.module)
    #expect(Set(modules).count == modules.count)
    #expect(Set(modules) == Package.modules)
  }

  @Test("a module imports the modules that its row names, no more and no fewer")
  func importsAsNamed() throws {
    for (module, allowed) in try ModuleTests.table() {
      guard let allowed else { continue }
      let imports = ModuleTests.imports(of: module).intersection(Package.modules)
      #expect(imports == allowed, "\(module): the sources say \(imports.sorted()), the page \(allowed.sorted())")
    }
  }

  @Test("a target declares in Package.swift what its sources import, no more and no less")
  func declaresImports() throws {
    let targets = try PackageTarget.all()
    #expect(targets.count > 30)
    // A test may run a program without importing it.
    let programs = Set(targets.filter(\.isProgram).map(\.name))
    let known = Set(targets.map(\.name)).union(targets.flatMap(\.products))
    for target in targets {
      let files = Package.all.filter { $0.path.hasPrefix(target.path + "/") }
      guard !files.isEmpty else { continue }
      let imports = Set(files.flatMap(\.lines).compactMap { $0.code.importedModule.map(String.init) })
      let declared = Set(target.dependencies + target.products)
      #expect(
        imports.intersection(known).subtracting(programs) == declared.subtracting(programs),
        "\(target.name) in Package.swift")
    }
  }

  @Test("a module has at most 4,500 lines, a file at most 500")
  func isSmall() {
    for module in Package.modules {
      let files = Package.sources.filter { $0.module == module }
      #expect(files.reduce(0) { $0 + $1.lines.count } <= 4500, "\(module)")
      for file in files { #expect(file.lines.count <= 500, "\(file.path)") }
    }
  }

  @Test("arrows point downwards: no modules import each other")
  func hasNoCycle() {
    var done: Set<String> = []
    var left = Package.modules
    while let module = left.first(where: {
      ModuleTests.imports(of: $0).intersection(Package.modules).isSubset(of: done)
    }) {
      done.insert(module)
      left.remove(module)
    }
    #expect(left.isEmpty, "these import each other: \(left.sorted())")
  }

  @Test(
    "the engine and the modules below it import nothing from the system", arguments: ["NVMe", "Target", "Endpoint"])
  func engineIsPure(module: String) {
    var (seen, left): (Set, [String]) = ([module], [module])
    while let module = left.popLast() {
      for name in ModuleTests.imports(of: module) where seen.insert(name).inserted {
        #expect(Package.modules.contains(name), "\(module) imports \(name)")
        left.append(name)
      }
    }
  }
}

/// A target of Package.swift.
private struct PackageTarget {
  let name: String
  let path: String
  /// Other targets.
  let dependencies: [String]
  /// Of other packages.
  let products: [String]
  let isProgram: Bool

  static func all() throws -> [PackageTarget] {
    var text = try Package.text("Package.swift")
    // A comment names no target.
    text = text.split(separator: "\n").filter { !$0.trimmed.hasPrefix("//") }.joined(separator: "\n")
    // Each begins with one of these, and ends where the next begins.
    for kind in ["target", "executableTarget", "testTarget", "systemLibrary", "plugin", "library", "executable"] {
      text = text.replacingOccurrences(of: ".\(kind)(name:", with: "\u{1}\(kind)(name:")
        .replacingOccurrences(of: ".\(kind)(\n      name:", with: "\u{1}\(kind)(name:")
    }
    return text.split(separator: "\u{1}").compactMap { PackageTarget(String($0)) }
  }

  private init?(_ text: String) {
    func strings(_ text: String) -> [String] {
      let parts = text.components(separatedBy: "\"")
      return stride(from: 1, to: parts.count, by: 2).map { parts[$0] }
    }
    func argument(_ label: String) -> String? { text.components(separatedBy: "\(label): ").dropFirst().first }
    let kind = text.prefix { $0 != "(" }
    guard ["target", "executableTarget", "testTarget", "systemLibrary"].contains(kind), let name = strings(text).first
    else {
      return nil
    }
    self.name = name
    isProgram = kind == "executableTarget"
    path = argument("path").flatMap { strings($0).first } ?? "\(kind == "testTarget" ? "Tests" : "Sources")/\(name)"
    let list = argument("dependencies").map { String($0.prefix { $0 != "]" }) } ?? ""
    let parts = list.components(separatedBy: ".product(")
    // The names after a product are targets again.
    dependencies = strings(parts[0]) + parts.dropFirst().flatMap { strings($0).dropFirst(2) }
    products = parts.dropFirst().compactMap { strings($0).first }
  }
}

extension Substring {
  /// What a line imports: `import A`, `@_spi(B) import A`, `import struct A.C`.
  var importedModule: Substring? {
    guard hasPrefix("import ") || (hasPrefix("@") && contains(" import ")) else { return nil }
    let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "typealias", "func", "let", "var"]
    return words.drop { $0 != "import" }.dropFirst().first { !kinds.contains($0) }
  }
}
