import FioGuard
import Foundation
import Glibc
import Host

/// The command of a recording: every fio in it runs on the endpoint, or not at all.
public struct RecordedCommand {
  /// The words as bytes: a file's name need not be text.
  public let words: [[UInt8]]
  /// Let a fio that cannot be redirected run, and jobs that name a device and write.
  private let allowsRealDevices: Bool
  private let searchPath: String
  private let fio: (index: Int, path: [UInt8], program: Program)?

  /// - Parameter searchPath: `PATH`, where it is not this process's own.
  public init(_ words: [[UInt8]], allowsRealDevices: Bool, searchPath: String? = nil) {
    self.words = words
    self.allowsRealDevices = allowsRealDevices
    let searchPath = searchPath ?? getenv("PATH").map { String(cString: $0) } ?? ""
    self.searchPath = searchPath
    fio = CommandWords.findFio(words, searchPath: searchPath)
  }

  /// Whether there is such a command, before anything is begun for it.
  public func checkName() throws {
    if let name = words.first { try Child.check(name.text, searchPath: searchPath) }
  }

  /// What can be said before anything is begun.
  public func check() throws {
    try checkName()
    guard let name = words.first else { return }
    if fio != nil { try RecordedCommand.checkEngine() }
    if case .sealedFio(let reason) = fio?.program, !allowsRealDevices {
      throw Failure(
        description: "the I/O of \(fio!.path.text) cannot be redirected, since \(reason): use the distribution's fio")
    }
    if fio == nil, !allowsRealDevices, !isWatchable {
      throw Failure(
        description: "\(name.text) raises its privileges, so a fio in it cannot be kept from real devices: record as "
          + "root, name fio itself in the command, or add --allow-real-devices")
    }
  }

  /// Programs of an ordinary user that are watched cannot raise their privileges.
  private var isWatchable: Bool { geteuid() == 0 || !CommandWords.raisesPrivileges(words) }

  /// Run it. What it needs lies in the recording's folder and goes with it.
  /// - Parameters:
  ///   - keepsData: whether the namespace gives back what is written to it.
  ///   - timeout: seconds after which fio's jobs give up a command.
  public func start(_ endpoint: ServedEndpoint, keepsData: Bool, timeout: Double) throws -> Child {
    let folder = endpoint.folder
    var settings = endpoint.environment
    settings["NVMEPF_KEEPS_DATA"] = keepsData ? "1" : "0"
    settings["NVMEPF_ALLOWS_REAL_DEVICES"] = allowsRealDevices ? "1" : "0"
    settings[HostController.timeoutVariable] = "\(timeout)"
    var words = words
    let fios = try FioSession(
      folder: folder, enginePath: RecordedCommand.enginePath, settings: settings, searchPath: searchPath)
    if let fio, fio.program == .fio { words[fio.index] = Array(try fios.addProgram(fio.path, name: "fio-1").utf8) }
    let device = RecordedCommand.device(words, endpoint.socketPath)
    words += device.words.map { Array($0.utf8) }
    for line in device.notes { tell("nvmepf: \(line)") }
    var environment = settings
    environment["PATH"] = "\(folder):\(searchPath)"
    if allowsRealDevices { return try Child(words, environment: environment) }
    guard isWatchable else {
      tell("nvmepf: the command raises its privileges and cannot be watched: only the fio named in it is redirected")
      return try Child(words, environment: environment)
    }
    return try Child(watched: words, isNeeded: fio == nil, folder: folder, environment: environment)
  }

  /// QEMU gets the endpoint as a device, unless its command line has one already.
  /// - Returns: words to add, and what to tell.
  static func device(_ words: [[UInt8]], _ socketPath: String) -> (words: [String], notes: [String]) {
    guard let name = words.first?.baseName.text, name.hasPrefix("qemu-system-") || name == "kvm",
      !words.contains(where: { $0.text.contains("vfio-user-pci") })
    else { return ([], []) }
    let device = #"{"driver":"vfio-user-pci","socket":{"type":"unix","path":"\#(socketPath)"}}"#
    var notes = ["added to \(name): -device '\(device)'"]
    if !words.contains(where: { $0.text.contains("share=on") }) {
      notes.append(
        "the guest's memory must be shared, for 2 GiB: -m 2G "
          + "-object memory-backend-memfd,id=ram,size=2G,share=on -machine memory-backend=ram")
    }
    return (["-device", device], notes)
  }

  /// Why fio takes the same time whatever it costs; nil where that is not known.
  public var timed: String? {
    guard let fio else { return nil }
    let own = words[(fio.index + 1)...].map(\.text)
    if let word = own.first(where: { RecordedCommand.isTimed(Substring($0)) }) { return "\(word) says how long" }
    // fio itself says what its job files mean. It would take one on standard input from the command.
    guard !own.contains("-") else { return nil }
    let shown = OtherProgram.output(fio.path.text, ["--showcmd"] + own)
    let all = shown?.split(whereSeparator: \.isWhitespace) ?? []
    return all.contains(where: RecordedCommand.isTimed) ? "time_based in the job file says how long" : nil
  }

  /// fio takes an option by any beginning of its name that is no other's.
  private static func isTimed(_ word: Substring) -> Bool {
    let parts = word.drop { $0 == "-" }.split(separator: "=", maxSplits: 1)
    return word.hasPrefix("-") && (parts.first.map { $0.count > 5 && "time_based".hasPrefix($0) } ?? false)
      && parts.dropFirst().first != "0"
  }

  // MARK: The engine

  /// The engine that lies beside this executable; nil where it is not built.
  static let enginePath: String? = {
    let path = ownFolder + "/nvmepf-fio.so"
    return FileManager.default.fileExists(atPath: path) ? path : nil
  }()

  private static var ownFolder: String {
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    return (own as NSString).deletingLastPathComponent
  }

  static func checkEngine() throws {
    guard enginePath == nil else { return }
    throw Failure(description: "the fio engine \(ownFolder)/nvmepf-fio.so is not built: make build")
  }
}
