import FioGuard
import Foundation
import Glibc
import Host

/// The command of a recording: every fio in it runs on the endpoint or not at all.
public struct RecordedCommand {
  /// The words as bytes, since a file name need not be text.
  public let words: [[UInt8]]
  /// Allow a fio that cannot be redirected, and jobs that write and name a device.
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

  /// Check that the command exists, before anything is started for it.
  public func checkName() throws {
    if let name = words.first { try Child.check(name.text, searchPath: searchPath) }
  }

  /// Checks before anything is started.
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
        description:
          "\(name.text) raises its privileges, so nvmepf cannot keep a fio in it from real devices: record as "
          + "root, name fio itself in the command, or add --allow-real-devices")
    }
  }

  /// Watched programs of an ordinary user cannot raise their privileges.
  private var isWatchable: Bool { geteuid() == 0 || !CommandWords.raisesPrivileges(words) }

  /// Run it. Its files are in the recording's directory and are removed with it.
  /// - Parameters:
  ///   - keepsData: whether the namespace stores written data.
  ///   - timeout: seconds after which fio's jobs give up a command.
  public func start(_ endpoint: ServedEndpoint, keepsData: Bool, timeout: Double) throws -> Child {
    let folder = endpoint.folder
    var settings = endpoint.environment
    settings["NVMEPF_KEEPS_DATA"] = keepsData ? "1" : "0"
    settings["NVMEPF_ALLOWS_REAL_DEVICES"] = allowsRealDevices ? "1" : "0"
    settings[HostController.timeoutVariable] = "\(timeout)"
    var words = words
    let fios = try FioSession(
      folder: folder, enginePath: FioEngine.path, settings: settings, searchPath: searchPath)
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

  /// Add the endpoint as a device to QEMU, unless its command line already has one.
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

  /// Why the duration of this fio does not depend on its costs; nil if unknown.
  public var timed: String? {
    guard let fio else { return nil }
    let own = words[(fio.index + 1)...].map(\.text)
    if let word = own.first(where: { RecordedCommand.isTimed(Substring($0)) }) { return "\(word) says how long" }
    // fio itself interprets its job files. It would consume one on standard input meant for the command.
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

  private static func checkEngine() throws {
    guard FioEngine.path == nil else { return }
    throw Failure(description: "\(FioEngine.absence): \(FioEngine.remedy)")
  }
}
