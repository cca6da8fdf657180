import Glibc
import Live
import Target

/// What is wrong with a configuration: a line each, with the file's name and the place.
public struct ConfigurationError: Error, CustomStringConvertible, Sendable {
  public let problems: [String]
  public var description: String { problems.joined(separator: "\n") }
}

/// An endpoint's configuration: the JSON that nvmetcli saves, as it is, and beside it what configfs has for the endpoint
/// function. docs/configuration.md describes every key.
public struct ConfigurationFile: Sendable {
  public let endpoint: EndpointConfiguration
  /// What whoever reads the file should be told, a line each: which keys have no effect here.
  public let notes: [String]

  /// More is no configuration.
  static let bytesMax = 16 << 20

  public static func read(path: String) throws(ConfigurationError) -> ConfigurationFile {
    guard let file = fopen(path, "r") else {
      throw ConfigurationError(problems: ["cannot open \(path): \(String(cString: strerror(errno)))"])
    }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count <= bytesMax {
      let count = fread(&piece, 1, piece.count, file)
      guard count > 0 else { break }
      bytes += piece[..<count]
    }
    guard ferror(file) == 0 else { throw ConfigurationError(problems: ["\(path) cannot be read: is it a file?"]) }
    return try parse(bytes, name: path)
  }

  /// - Parameter name: stands before every problem.
  public static func parse(_ bytes: [UInt8], name: String) throws(ConfigurationError) -> ConfigurationFile {
    guard bytes.count <= bytesMax else {
      throw ConfigurationError(problems: ["\(name) is too long for a configuration: \(bytes.count) bytes"])
    }
    let value: JSONValue
    do throws(JSONError) { value = try JSONReader.read(bytes) } catch {
      throw ConfigurationError(problems: ["\(name):\(error.line):\(error.column): \(error.what)"])
    }
    let problems = Problems(name: name)
    let endpoint = EndpointReader(problems).read(Section(value, path: "", problems))
    guard let endpoint, problems.lines.isEmpty else { throw ConfigurationError(problems: problems.lines) }
    let keys = problems.withoutEffect.sorted().joined(separator: ", ")
    return ConfigurationFile(endpoint: endpoint, notes: keys.isEmpty ? [] : ["\(name): without effect here: \(keys)"])
  }
}

extension NamespaceConfiguration {
  /// One namespace, as an element of `subsystems[].namespaces` has it.
  /// - Parameter name: stands before every problem.
  public static func parse(_ bytes: [UInt8], name: String) throws(ConfigurationError) -> NamespaceConfiguration {
    let value: JSONValue
    do throws(JSONError) { value = try JSONReader.read(bytes) } catch {
      throw ConfigurationError(problems: ["\(name):\(error.line):\(error.column): \(error.what)"])
    }
    let problems = Problems(name: name)
    let namespace = SubsystemSection.namespace(Section(value, path: "", problems))
    guard let namespace, problems.lines.isEmpty else {
      throw ConfigurationError(problems: problems.lines.isEmpty ? ["\(name): it is not enabled"] : problems.lines)
    }
    return namespace
  }
}

/// Makes an endpoint of a configuration's sections.
private struct EndpointReader {
  private let problems: Problems

  init(_ problems: Problems) { self.problems = problems }

  /// - Returns: nil when there is nothing that can be served; a problem says why.
  func read(_ root: Section) -> EndpointConfiguration? {
    _ = root.sections("hosts").map { host in
      _ = host.string("nqn")
      host.ignore(["dhchap_key", "dhchap_ctrl_key", "dhchap_hash", "dhchap_dhgroup"])
      host.end()
    }
    let functions = root.sections("functions").map(FunctionSection.init)
    let ports = root.sections("ports").map(PortSection.init)
    let subsystems = root.sections("subsystems", apart: true).map(SubsystemSection.init)
    root.skip(["discovery"])
    root.end()
    complainOfTwins(ports.map { ($0.section.place("portid"), $0.number.map(String.init)) })
    complainOfTwins(subsystems.map { ($0.section.place("nqn"), $0.nqn) })
    if functions.count > 1 {
      root.complain("functions", "one endpoint serves one function, these are \(functions.count)")
    }
    let function = functions.first
    let nqn = chooseSubsystem(root, function, ports)
    // Others may be what they like, but for one without a name: who knows which it is?
    for subsystem in subsystems where subsystem.nqn == nil || subsystem.nqn == nqn {
      problems.add(contentsOf: subsystem.problems)
    }
    guard let nqn, problems.lines.isEmpty else { return nil }
    guard let subsystem = subsystems.first(where: { $0.nqn == nqn }) else {
      root.complain("subsystems", "there is no subsystem \(nqn)")
      return nil
    }
    var endpoint = EndpointConfiguration()
    subsystem.apply(to: &endpoint)
    function?.apply(to: &endpoint)
    if endpoint.namespaces.isEmpty {
      problems.add(subsystem.section.place("namespaces"), "none is enabled")
      return nil
    }
    return endpoint
  }

  private func complainOfTwins(_ names: [(place: String, name: String?)]) {
    var seen: Set<String> = []
    for case (let place, let name?) in names where !seen.insert(name).inserted {
      problems.add(place, "\(name) stands twice")
    }
  }

  /// The subsystem that the function names, or the only one of the port that it names, or of the only PCI port.
  private func chooseSubsystem(_ root: Section, _ function: FunctionSection?, _ ports: [PortSection]) -> String? {
    if let function, let number = function.port { return chooseSubsystem(function, number, ports) }
    if let nqn = function?.subsystem { return nqn }
    let candidates = ports.filter(\.isPCI)
    guard let port = candidates.first, candidates.count == 1 else {
      let remedy = "functions[0].nvme.portid or subsysnqn chooses"
      root.complain(
        "ports",
        candidates.isEmpty
          ? "there is no port whose addr.trtype is pci" : "\(candidates.count) ports are of type pci: \(remedy)")
      return nil
    }
    return onlySubsystem(of: port)
  }

  /// The port that the function names must be there, of type pci, and link the subsystem.
  private func chooseSubsystem(_ function: FunctionSection, _ number: UInt32, _ ports: [PortSection]) -> String? {
    let port = ports.first { $0.number == number }
    guard let port, port.isPCI else {
      function.section.complain(
        "nvme.portid", port == nil ? "there is no port \(number)" : "addr.trtype of port \(number) is not pci")
      return nil
    }
    guard let nqn = function.subsystem else { return onlySubsystem(of: port) }
    guard port.subsystems.contains(nqn) else {
      function.section.complain("nvme.subsysnqn", "port \(number) does not have the subsystem \(nqn)")
      return nil
    }
    return nqn
  }

  private func onlySubsystem(of port: PortSection) -> String? {
    guard let nqn = port.subsystems.first, port.subsystems.count == 1 else {
      port.section.complain("subsystems", "a PCI port has one subsystem, this one \(port.subsystems.count)")
      return nil
    }
    return nqn
  }
}
