import CEdit
import CPlatform
import Debugger
import Glibc
import Service
import Synchronization
import Text
import Trace

/// `replay --interactive` and `replay --script`: lines for the debugger, from a person or a file.
enum DebuggerSession {
  private static let prompt = "(nvmepf) "

  /// Perform the commands of a file, and print each before its output. A command that fails ends it with status 1.
  /// - Parameter script: `-` for standard input.
  static func perform(_ script: String, on reader: TraceReader, _ controller: UInt16?) throws {
    let lines = try Lines(script)
    let debugger = try open(reader, controller)
    debugger.introduce()
    while let line = try lines.next() {
      let command = line.trimmingSpaces
      guard !command.isEmpty, !command.hasPrefix("#") else { continue }
      print(prompt + command.printable())
      do {
        guard try debugger.perform(command) else { return }
      } catch let error as DebuggerError {
        throw Failure(description: "\(script == "-" ? "line" : script + ", line") \(lines.number): \(error)", status: 1)
      }
    }
  }

  /// Perform the commands that a person types. Without a terminal the lines come from standard input.
  static func converse(on reader: TraceReader, _ controller: UInt16?) throws {
    guard isatty(STDIN_FILENO) == 1 else { return try perform("-", on: reader, controller) }
    let debugger = try open(reader, controller)
    debugger.introduce()
    subjects.withLock { $0 = debugger.subjectNames }
    complete()
    signal(SIGINT) { _ in isInterrupted.store(true, ordering: .relaxed) }
    while true {
      guard let typed = readline(prompt) else {
        // Ctrl-C at the prompt discards the line, Ctrl-D leaves.
        guard isInterrupted.exchange(false, ordering: .relaxed) else { break }
        print()
        continue
      }
      defer { free(typed) }
      let line = String(cString: typed).trimmingSpaces
      if !line.isEmpty { add_history(typed) }
      isInterrupted.store(false, ordering: .relaxed)
      do {
        guard try debugger.perform(line) else { return }
      } catch { print(error) }
      _ = nvmepf_flush_output()
    }
    print()
  }

  private static func open(_ reader: TraceReader, _ controller: UInt16?) throws -> Debugger {
    do {
      return try Debugger.open(reader, controller: controller) {
        print($0)
      } isInterrupted: {
        isInterrupted.load(ordering: .relaxed)
      }
    } catch let error as DebuggerError {
      throw Failure(description: error.description)
    }
  }

  /// The tabulator key completes the names of commands and of what `info` shows.
  private static func complete() {
    nvmepf_complete_with { word, start, _ in
      let before = String(cString: nvmepf_typed_line()).utf8.prefix(Int(start))
      let found = Debugger.completions(
        of: String(cString: word!), after: String(decoding: before, as: UTF8.self), subjects.withLock { $0 })
      completions.withLock { $0 = found }
      return nvmepf_completions(word) { _, index in
        completions.withLock { $0.indices.contains(Int(index)) ? strdup($0[Int(index)]) : nil }
      }
    }
  }
}

private let isInterrupted = Atomic(false)
private let completions = Mutex<[String]>([])
/// What `info` can show.
private let subjects = Mutex<[String]>([])

/// The lines of a file, of bounded length.
private final class Lines {
  private let file: UnsafeMutablePointer<FILE>
  private let path: String
  private(set) var number = 0
  private static let bytesMax = 4096

  init(_ path: String) throws {
    guard let file = path == "-" ? fdopen(dup(STDIN_FILENO), "r") : fopen(path, "re") else {
      throw Failure(description: "cannot open \(path): \(String(cString: strerror(errno)))")
    }
    (self.file, self.path) = (file, path)
  }

  deinit { fclose(file) }

  func next() throws -> String? {
    var bytes = [CChar](repeating: 0, count: Lines.bytesMax + 2)
    guard fgets(&bytes, Int32(bytes.count), file) != nil else {
      guard ferror(file) == 0 else {
        throw Failure(description: "cannot read \(path): \(String(cString: strerror(errno)))")
      }
      return nil
    }
    number += 1
    let line = bytes.prefix { $0 != 0 }
    guard line.count <= Lines.bytesMax else {
      throw Failure(description: "line \(number) of the script is longer than \(Lines.bytesMax) bytes", status: 1)
    }
    return String(decoding: line.lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

extension String {
  fileprivate var trimmingSpaces: String {
    let isSpace: (Character) -> Bool = { $0.isWhitespace }
    return String(drop(while: isSpace).reversed().drop(while: isSpace).reversed())
  }
}
