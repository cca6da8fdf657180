import Foundation
import Testing

/// The rooms of docs/architecture.md, and what each may import.
@Suite("Rooms")
struct RoomTests {
  /// A row of the page's table. `imports` is nil where a room may import all others.
  private static func table() throws -> [(room: String, imports: Set<String>?)] {
    let lines = try Package.text("docs/architecture.md").split(separator: "\n")
    let begin = try #require(lines.firstIndex { $0.hasPrefix("| room |") })
    return lines[(begin + 2)...].prefix { $0.hasPrefix("|") }.map { line in
      let cells = line.split(separator: "|")
      let imports = cells.last!.trimmed == "all" ? nil : Set(cells.last!.quoted.map(String.init))
      return (String(cells[0].quoted.first ?? ""), imports)
    }
  }

  private static func imports(of room: String) -> Set<String> {
    var all: Set<String> = []
    for file in Package.sources where file.room == room {
      for line in file.lines {
        let words = line.code.words
        if let place = words.firstIndex(of: "import"), place < 2, words.count > place + 1 {
          all.insert(String(words[words.count - 1]))
        }
      }
    }
    return all
  }

  @Test("the table of the page lists every room once")
  func isComplete() throws {
    let rooms = try RoomTests.table().map(\.room)
    #expect(Set(rooms).count == rooms.count)
    #expect(Set(rooms) == Package.rooms)
  }

  @Test("a room imports the rooms that its row names, no more and no fewer")
  func importsAsNamed() throws {
    for (room, allowed) in try RoomTests.table() {
      guard let allowed else { continue }
      let imports = RoomTests.imports(of: room).intersection(Package.rooms)
      #expect(imports == allowed, "\(room): the sources say \(imports.sorted()), the page \(allowed.sorted())")
    }
  }

  @Test("arrows point downwards: no rooms import each other")
  func hasNoCycle() {
    var done: Set<String> = []
    var left = Package.rooms
    while let room = left.first(where: { RoomTests.imports(of: $0).intersection(Package.rooms).isSubset(of: done) }) {
      done.insert(room)
      left.remove(room)
    }
    #expect(left.isEmpty, "these import each other: \(left.sorted())")
  }

  @Test("the engine and all that it stands on import nothing of the system", arguments: ["NVMe", "Target", "Endpoint"])
  func engineIsPure(room: String) {
    var (seen, left): (Set, [String]) = ([room], [room])
    while let room = left.popLast() {
      for name in RoomTests.imports(of: room) where seen.insert(name).inserted {
        #expect(Package.rooms.contains(name), "\(room) imports \(name)")
        left.append(name)
      }
    }
  }
}
