import Backends
import Device
import Glibc
import Target

/// The problems of a configuration, one line each, with the file's name and the place.
public struct ConfigurationError: Error, CustomStringConvertible, Sendable {
  public let problems: [String]
  public var description: String { problems.joined(separator: "\n") }
}

/// An endpoint's configuration: the JSON that nvmetcli saves, plus configfs's settings of the endpoint function.
/// docs/configuration.md describes every key.
public struct ConfigurationFile: Sendable {
  public let endpoint: EndpointConfiguration
  /// Warnings for the user, one line each: unknown keys, and keys without effect.
  public let notes: [String]

  /// Values that may come from outside the file.
  public struct Choice: Sendable {
    /// The port whose subsystem is served, whatever its transport.
    public var port: UInt32?
    /// The subsystem to serve, whether a port has it or not.
    public var subsystem: String?
    /// A unique text from which the endpoint's identity is derived, if the file does not set it.
    public var seed: String?

    public init(port: UInt32? = nil, subsystem: String? = nil, seed: String? = nil) {
      self.port = port
      self.subsystem = subsystem
      self.seed = seed
    }
  }

  /// Larger files are not configurations.
  static let bytesMax = 16 << 20

  public static func read(path: String, choice: Choice = Choice()) throws(ConfigurationError) -> ConfigurationFile {
    // Otherwise opening a FIFO without a writer blocks.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      throw ConfigurationError(problems: ["cannot open \(path): \(String(cString: strerror(errno)))"])
    }
    defer { close(descriptor) }
    let isFIFO = isFIFO(descriptor)
    var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    if isFIFO { poll(&polled, 1, writerMs) }
    let bytes = try readAll(descriptor, path)
    guard !isFIFO || !bytes.isEmpty else {
      throw ConfigurationError(problems: ["\(path) is a FIFO without a writer"])
    }
    return try parse(bytes, name: path, choice: choice)
  }

  /// How long a FIFO may have no writer.
  private static let writerMs: Int32 = 500

  private static func isFIFO(_ descriptor: Int32) -> Bool {
    var status = stat()
    return fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO
  }

  private static func readAll(_ descriptor: Int32, _ path: String) throws(ConfigurationError) -> [UInt8] {
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count <= bytesMax {
      let count = Glibc.read(descriptor, &piece, piece.count)
      if count < 0, errno == EAGAIN || errno == EINTR {
        // A writer has opened it and may take its time.
        _ = fcntl(descriptor, F_SETFL, 0)
        continue
      }
      guard count >= 0 else { throw ConfigurationError(problems: ["\(path) cannot be read: is it a file?"]) }
      if count == 0 { break }
      bytes += piece[..<count]
    }
    return bytes
  }

  /// - Parameter name: prefix of every problem.
  public static func parse(
    _ bytes: [UInt8], name: String, choice: Choice = Choice()
  ) throws(ConfigurationError) -> ConfigurationFile {
    guard bytes.count <= bytesMax else {
      throw ConfigurationError(problems: ["\(name) is too long for a configuration: \(bytes.count) bytes"])
    }
    let problems = Problems(name: name)
    let endpoint = EndpointReader(problems, choice).read(try Section(reading: bytes, problems))
    guard let endpoint, problems.lines.isEmpty else { throw ConfigurationError(problems: problems.all) }
    return ConfigurationFile(endpoint: endpoint, notes: problems.notes)
  }
}

extension NamespaceConfiguration {
  /// One namespace, as an element of `subsystems[].namespaces`.
  /// - Parameter name: prefix of every problem.
  public static func parse(_ bytes: [UInt8], name: String) throws(ConfigurationError) -> NamespaceConfiguration {
    let problems = Problems(name: name)
    let namespace = SubsystemSection.namespace(try Section(reading: bytes, problems))
    guard let namespace, problems.lines.isEmpty else {
      throw ConfigurationError(problems: problems.lines.isEmpty ? ["\(name): it is not enabled"] : problems.all)
    }
    return namespace
  }
}

/// Makes an endpoint from a configuration's sections.
private struct EndpointReader {
  private let problems: Problems
  private let choice: ConfigurationFile.Choice

  init(_ problems: Problems, _ choice: ConfigurationFile.Choice) {
    self.problems = problems
    self.choice = choice
  }

  /// - Returns: nil if there is nothing to serve; a problem gives the reason.
  func read(_ root: Section) -> EndpointConfiguration? {
    root.sections("hosts").forEach(EndpointReader.skipHost)
    let functions = root.sections("functions").map(FunctionSection.init)
    let ports = root.sections("ports").map(PortSection.init)
    let subsystems = root.sections("subsystems", apart: true).map { SubsystemSection($0, seed: choice.seed) }
    root.skip(["discovery"])
    root.end()
    complainOfTwins(ports.map { ($0.section.place("portid"), $0.number.map(String.init)) })
    complainOfTwins(subsystems.map { ($0.section.place("nqn"), $0.nqn) })
    if functions.count > 1 {
      root.complain("functions", "an endpoint serves one function, not \(functions.count)")
    }
    let function = functions.first
    let names = subsystems.compactMap(\.nqn)
    let nqn = Selection(root: root, ports: ports, names: names).choose(choice, function)
    // Other subsystems are not checked, except for a missing name: it might be the one to serve.
    for subsystem in subsystems where subsystem.nqn == nil || subsystem.nqn == nqn {
      problems.add(contentsOf: subsystem.problems)
    }
    guard let nqn, problems.lines.isEmpty else { return nil }
    guard let subsystem = subsystems.first(where: { $0.nqn == nqn }) else {
      root.complain(
        "subsystems", "there is no subsystem \(nqn)" + (names.isEmpty ? "" : ", only \(names.joined(separator: ", "))"))
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

  /// Access control of network transports does not apply to a PCI function; secrets are not even read.
  private static func skipHost(_ host: Section) {
    host.skip(["nqn"])
    host.ignore(["dhchap_key", "dhchap_ctrl_key", "dhchap_hash", "dhchap_dhgroup"])
    if let dhchap = host.section("dhchap") {
      dhchap.ignore(["key", "ctrl_key"], prefix: "dhchap.")
      // They have a value even without a key.
      dhchap.skip(["hash", "dhgroup"])
      dhchap.end()
    }
    host.end()
  }

  private func complainOfTwins(_ names: [(place: String, name: String?)]) {
    var seen: Set<String> = []
    for case (let place, let name?) in names where !seen.insert(name).inserted {
      problems.add(place, "\(name) stands twice")
    }
  }
}

/// Selects the subsystem to serve.
private struct Selection {
  let root: Section
  let ports: [PortSection]
  /// NQNs of the existing subsystems.
  let names: [String]

  /// A choice outside the file comes first, then the function's, then the only PCI port.
  /// - Returns: nil if none can be selected; a problem gives the reason.
  func choose(_ choice: ConfigurationFile.Choice, _ function: FunctionSection?) -> String? {
    if let number = choice.port {
      guard let port = ports.first(where: { $0.number == number }) else {
        root.complain("ports", "there is no port \(number)")
        return nil
      }
      return subsystem(choice.subsystem, of: port, port.section.place("subsystems"))
    }
    if let nqn = choice.subsystem { return nqn }
    if let function, let number = function.port { return choose(function, number) }
    return function?.subsystem ?? onlySubsystemOfPCI()
  }

  /// The function's port must exist, have type pci, and link the subsystem.
  private func choose(_ function: FunctionSection, _ number: UInt32) -> String? {
    let port = ports.first { $0.number == number }
    guard let port, port.isPCI else {
      function.section.complain(
        "nvme.portid", port == nil ? "there is no port \(number)" : "addr.trtype of port \(number) is not pci")
      return nil
    }
    return subsystem(function.subsystem, of: port, function.section.place("nvme.subsysnqn"))
  }

  /// The subsystem of a port: the named one, which it must have, or its only one.
  /// - Parameter place: where it is named.
  private func subsystem(_ nqn: String?, of port: PortSection, _ place: String) -> String? {
    guard let nqn else { return onlySubsystem(of: port) }
    guard port.subsystems.contains(nqn) else {
      let number = port.number.map(String.init) ?? ""
      port.section.problems.add(place, "port \(number) does not have the subsystem \(nqn)")
      return nil
    }
    return nqn
  }

  private func onlySubsystemOfPCI() -> String? {
    let candidates = ports.filter(\.isPCI)
    if let port = candidates.first, candidates.count == 1 { return onlySubsystem(of: port) }
    guard candidates.isEmpty else {
      root.complain(
        "ports", "\(candidates.count) ports have addr.trtype pci: choose one with --port\(given(candidates))")
      return nil
    }
    let others = ports.map { "port \($0.number.map(String.init) ?? "") is \($0.transport ?? "of none")" }
    root.complain(
      "ports",
      "the endpoint is a PCI function, and no port has addr.trtype pci"
        + (others.isEmpty ? "" : " (\(others.prefix(4).joined(separator: ", ")))")
        + ": choose what it serves with \(remedy), or set addr.trtype to pci")
    return nil
  }

  private func onlySubsystem(of port: PortSection) -> String? {
    if let nqn = port.subsystems.first, port.subsystems.count == 1 { return nqn }
    let number = port.number.map(String.init) ?? ""
    port.section.complain(
      "subsystems",
      "a PCI function serves one subsystem, but port \(number) has "
        + (port.subsystems.isEmpty ? "none" : "\(port.subsystems.count)") + ": choose with "
        + remedy(port.subsystems.isEmpty ? names : port.subsystems))
    return nil
  }

  private func given(_ ports: [PortSection]) -> String {
    ports.compactMap(\.number).prefix(4).map { " \($0)" }.joined(separator: " or --port")
  }

  private var remedy: String { remedy(names) }

  private func remedy(_ names: [String]) -> String {
    names.isEmpty ? "--subsystem NQN" : names.prefix(4).map { "--subsystem \($0)" }.joined(separator: " or ")
  }
}
