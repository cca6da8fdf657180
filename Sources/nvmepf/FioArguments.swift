import Foundation

/// What makes a fio command line run on the endpoint: our engine and threads, in place of the engine that it names.
struct FioArguments {
  private let enginePath: String
  /// Makes the path of a new file for a job file's copy.
  private let copyPath: (String) -> String
  /// A device that fio was to work on.
  private(set) var device: String?

  init(enginePath: String, copyPath: @escaping (String) -> String) {
    self.enginePath = enginePath
    self.copyPath = copyPath
  }

  private var engine: String { "external:\(enginePath)" }

  /// Options in front are defaults of every job on the command line; a job file takes them from a copy of its own.
  mutating func rewrite(_ command: [String]) throws(Failure) -> [String] {
    var result = [command[0], "--ioengine=\(engine)", "--thread=1"]
    var dropsNext = false
    for (index, argument) in command.dropFirst().enumerated() {
      if dropsNext {
        dropsNext = false
        continue
      }
      if let option = option(argument), FioArguments.isReplaced(option.name) {
        dropsNext = !option.hasValue && option.name != "thread"
        continue
      }
      note(argument, isNext: index > 0 && command[index].hasSuffix("-filename"))
      let isFile = !argument.hasPrefix("-") && FileManager.default.fileExists(atPath: argument)
      result.append(isFile ? try copy(argument, number: index) : argument)
    }
    return result
  }

  private func option(_ argument: String) -> (name: String, hasValue: Bool)? {
    guard argument.hasPrefix("-") else { return nil }
    let parts = argument.drop { $0 == "-" }.split(separator: "=", maxSplits: 1)
    return parts.first.map { (String($0), parts.count > 1) }
  }

  /// fio takes abbreviations as long as they are unique.
  private static func isReplaced(_ name: String) -> Bool {
    name == "thread" || (name.count >= 3 && "ioengine".hasPrefix(name))
  }

  /// Where the argument or line names a device to work on.
  private mutating func note(_ text: String, isNext: Bool = false) {
    let parts = text.drop { $0 == "-" }.split(separator: "=", maxSplits: 1)
    let isFilename = parts.count == 2 && parts[0].trimmingCharacters(in: .whitespaces) == "filename"
    guard isNext || isFilename, let name = parts.last?.trimmingCharacters(in: .whitespaces), name.hasPrefix("/dev/")
    else {
      return
    }
    device = name
  }

  private mutating func copy(_ path: String, number: Int) throws(Failure) -> String {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw Failure(description: "cannot read the job file \(path)")
    }
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).filter { line in
      let name = line.split(separator: "=", maxSplits: 1).first?.trimmingCharacters(in: .whitespaces).lowercased() ?? ""
      return name != "ioengine" && name != "thread"
    }
    for line in lines { note(String(line)) }
    let target = copyPath("\(number)-\((path as NSString).lastPathComponent)")
    let whole = "[global]\nioengine=\(engine)\nthread=1\n" + lines.joined(separator: "\n")
    do { try whole.write(toFile: target, atomically: false, encoding: .utf8) } catch {
      throw Failure(description: "cannot write a copy of \(path): \(error.localizedDescription)")
    }
    return target
  }
}
