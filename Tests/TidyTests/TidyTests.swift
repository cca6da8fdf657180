import Foundation
import Testing

/// What every source keeps to.
@Suite("Sources")
struct TidyTests {
  /// - Returns: where code has one of these words that only some files may have.
  private func places(of words: Set<Substring>, besides isAllowed: (SourceFile) -> Bool) -> [String] {
    Package.all.filter { !isAllowed($0) && !$0.path.hasPrefix("Tests/TidyTests/") }.flatMap { file in
      file.lines.filter { $0.code.words.contains(where: words.contains) }.map { "\(file.path):\($0.number)" }
    }
  }

  @Test("public types, nested ones too, and public functions have a doc comment")
  func hasDocComments() {
    for file in Package.sources {
      for (index, line) in file.lines.enumerated()
      where line.code.hasPrefix("public ") || (line.code.contains("public ") && line.code.declaredType != nil) {
        let isExtension = line.code.hasPrefix("public extension ")
        var above = index - 1
        var isForC = false
        while above >= 0, file.lines[above].code.trimmed.hasPrefix("@") {
          isForC = isForC || file.lines[above].code.hasPrefix("@_cdecl")
          above -= 1
        }
        // A function for C is described where C reads of it.
        guard !isExtension, !isForC else { continue }
        #expect(above >= 0 && file.lines[above].comment.hasPrefix("///"), "\(file.path):\(line.number)")
      }
    }
  }

  @Test("events are read by name; only code that makes, stores or tests them uses positions")
  func readsEventsByName() {
    let modules: Set = ["EventTable", "EventGenerator", "Events", "Trace"]
    // The compiler lets only those who import `Places` read them.
    let words: Set<Substring> = ["Places", "EventFlag", "aLow", "aHigh", "bLow", "bHigh"]
    let found = places(of: words) { !$0.path.hasPrefix("Sources/") || modules.contains($0.module) }
    #expect(found == [])
  }

  /// Words that stand in one file only: the constants of SplitMix64, and what starts a thread or makes an eventfd.
  private static let unique: [(words: Set<Substring>, path: String)] = [
    (["0xbf58_476d_1ce4_e5b9", "0x94d0_49bb_1331_11eb"], "Sources/Chance/SeededGenerator.swift"),
    (["pthread_create"], "Sources/Platform/WorkerThread.swift"),
    (["nvmepf_eventfd"], "Sources/Platform/EventDescriptor.swift"),
    (["nanosleep", "usleep"], "Sources/Platform/Backoff.swift"),
    (["clock_gettime", "gettimeofday"], "Sources/Platform/Clock.swift"),
  ]

  @Test("the seeded generator, thread starts, event descriptors, sleeps and clocks exist once", arguments: unique)
  func existsOnce(words: Set<Substring>, path: String) {
    // Tests play clients, which bring event descriptors of their own, and a benchmark measures a thread's own time.
    let found = places(of: words) {
      $0.path == path || (!words.contains("pthread_create") && !$0.path.hasPrefix("Sources/"))
    }
    #expect(found == [])
    #expect(Package.sources.contains { $0.path == path })
  }

  /// A table of commands spreads its keys by itself, since each command pays for it.
  @Test("only the seeded generator and the stable hash mix numbers")
  func mixesNumbersOnce() {
    let isAllowed: Set = ["Sources/Analysis/CommandPool.swift", "Tests/TidyTests/TidyTests.swift"]
    for file in Package.all where file.module != "Chance" && !isAllowed.contains(file.path) {
      for line in file.lines where line.code.contains("&*") {
        let isMixing = line.code.words.contains { $0.first?.isNumber == true && $0.count >= 16 }
        #expect(!isMixing, "\(file.path):\(line.number)")
      }
    }
  }

  @Test("files that the pages name exist")
  func filesExist() throws {
    let pages = try ["README.md", "HACKING.md"] + Package.paths("docs", ["md"])
    for page in pages {
      for name in try Package.text(page).quoted where name.hasSuffix(".swift") && name.contains("/") {
        #expect(Package.all.contains { "/\($0.path)".hasSuffix("/\(name)") }, "\(page): \(name)")
      }
    }
  }

  @Test("numbers are written in hexadecimal in one place")
  func writesHexadecimalOnce() {
    for file in Package.all where !["Text", "TidyTests"].contains(file.module) {
      for line in file.lines where line.code.contains("radix: 16)") {
        // A number's initialiser reads; a string's writes.
        #expect(!line.code.contains("String(") || line.code.contains("UInt"), "\(file.path):\(line.number)")
      }
    }
  }

  @Test("numbers are formatted in one place, Quantity")
  func formatsNumbersOnce() {
    for file in Package.sources {
      for line in file.lines {
        // The call may be broken before its first argument.
        let isFormat = line.code.contains("String(format:") || line.code.trimmed.hasPrefix("format:")
        #expect(!isFormat, "\(file.path):\(line.number)")
      }
    }
  }

  @Test("JSON has one writer, besides the control socket's messages, which Foundation codes")
  func writesJSONOnce() {
    let found = places(of: ["JSONEncoder", "withJSONObject"]) {
      !$0.path.hasPrefix("Sources/") || $0.module == "Control"
    }
    #expect(found == [])
  }

  /// Names that comments take from the system's headers or give as examples.
  private static let foreign: Set<Substring> = ["FROM_HOST", "top", "vfio_irq_set", "vfio_region_info"]

  @Test("names between backticks in comments exist")
  func namesExist() throws {
    var words = TidyTests.foreign
    for file in Package.all {
      for line in file.lines { words.formUnion(line.code.words) }
      words.formUnion(file.path.words)
    }
    for directory in ["bpf", "FioEngine", "scripts", "Sources", "Tests"] {
      for path in try Package.paths(directory, ["c", "h", "sh"]) { words.formUnion(try Package.text(path).words) }
    }
    for path in ["Makefile", "Package.swift"] { words.formUnion(try Package.text(path).words) }
    for file in Package.sources {
      for line in file.lines {
        for name in line.comment.quoted where name.isName {
          for word in name.words where !words.contains(word) {
            Issue.record("\(file.path):\(line.number): nothing is called `\(name)`")
          }
        }
      }
    }
  }

  @Test("a type's name has one meaning in the package")
  func typeNamesAreUnique() {
    var places: [Substring: [String]] = [:]
    for file in Package.sources {
      for line in file.lines where line.code.first?.isLetter == true {
        guard let name = line.code.declaredType else { continue }
        places[name, default: []].append("\(file.path):\(line.number)")
      }
    }
    #expect(places.count > 200)
    for (name, found) in places where found.count > 1 {
      Issue.record("\(name): \(found.joined(separator: ", "))")
    }
  }

  @Test("a function fits a screen: at most 70 lines")
  func functionsAreShort() {
    for file in Package.sources {
      var open: (line: Int, end: String)?
      for line in file.lines {
        if let (begin, end) = open {
          guard line.code == end else { continue }
          #expect(line.number - begin <= 70, "\(file.path):\(begin)")
          open = nil
        } else if line.code.words.contains(where: { $0 == "func" || $0 == "init" }), line.code.beginsDeclaration {
          open = (line.number, line.code.prefix { $0 == " " } + "}")
        }
      }
    }
  }
}

extension Substring {
  /// An identifier, or several with dots between them, with or without labels of arguments.
  fileprivate var isName: Bool {
    guard let first, first.isLetter || first == "_" else { return false }
    return allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) || "_.:()".contains($0) }
  }

  /// The name of the type that a line declares.
  fileprivate var declaredType: Substring? {
    let words = words
    let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "actor"]
    guard let place = words.firstIndex(where: kinds.contains), place + 1 < words.count, !words.contains("import") else {
      return nil
    }
    return words[place + 1]
  }

  /// Whether a function or initialiser begins in it whose body has lines of its own.
  fileprivate var beginsDeclaration: Bool {
    let modifiers: Set<Substring> = [
      "public", "private", "fileprivate", "static", "mutating", "override", "convenience", "package", "required",
    ]
    guard let word = words.first(where: { !modifiers.contains($0) }), word == "func" || word == "init" else {
      return false
    }
    return hasSuffix("{") || hasSuffix("(")
  }
}
