import EventTable
import Foundation
import Testing

@testable import event_generator

/// The header that the kernel's probes include, compiled for this machine.
@Suite struct EventHeaderTests {
  @Test("Each field of each event arrives where the table has it")
  func places() throws {
    let output = try run(program: EventHeaderTests.program)
    let lines = output.split(separator: "\n").map(String.init)
    try #require(lines.count == eventTable.count)
    for (line, event) in zip(lines, eventTable) { #expect(line == expected(event), "\(event.name)") }
  }

  /// Distinct in every byte of every field of an event.
  private static func value(_ index: Int, _ field: EventField) -> UInt64 {
    let bytes = (0..<field.place.location.width).map { UInt64(1 + index * 8 + $0) << (8 * $0) }
    return bytes.reduce(0, |)
  }

  private static func fields(_ event: EventDescription) -> [EventField] {
    event.fields.filter { if case .tail = $0.place { false } else { true } }
  }

  private func expected(_ event: EventDescription) -> String {
    var record = [UInt8](repeating: 0, count: 32)
    record[8] = event.kind
    for (index, field) in EventHeaderTests.fields(event).enumerated() {
      let (offset, width) = field.place.location
      for byte in 0..<width { record[offset + byte] = UInt8(1 + index * 8 + byte) }
    }
    return record.map { "\($0)" }.joined(separator: " ")
  }

  /// Prints the record of each event of the table.
  private static var program: String {
    let calls = eventTable.map { event in
      let name = event.name.replacing("-", with: "_")
      let values = fields(event).enumerated().map { ".\($1.name) = \(value($0, $1))ull" }.joined(separator: ", ")
      return "show(\(name)((struct \(name)_fields){ \(values) }));"
    }
    return """
      #include <stdint.h>
      #include <stdio.h>
      #include <string.h>
      typedef uint8_t u8;
      typedef uint16_t u16;
      typedef uint32_t u32;
      typedef uint64_t u64;
      \(cHeader())
      static void show(struct fields f) {
        u8 record[32] = {0};
        record[8] = f.kind, record[9] = f.flags;
        memcpy(record + 10, &f.qid, 2), memcpy(record + 12, &f.cid, 2);
        memcpy(record + 16, &f.a, 8), memcpy(record + 24, &f.b, 8);
        for (int i = 0; i < 32; i++) printf("%u%c", record[i], i < 31 ? ' ' : '\\n');
      }
      int main(void) { \(calls.joined(separator: "\n")) return 0; }
      """
  }

  private func run(program: String) throws -> String {
    let folder = FileManager.default.temporaryDirectory.appending(path: "event-header-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let source = folder.appending(path: "events.c")
    let binary = folder.appending(path: "events")
    try Data(program.utf8).write(to: source)
    _ = try output(of: "clang", "-Werror", "-o", binary.path, source.path)
    return try output(of: binary.path)
  }

  private func output(of command: String...) throws -> String {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = command
    process.standardOutput = pipe
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    try #require(process.terminationStatus == 0, "\(command)")
    return String(decoding: data, as: UTF8.self)
  }
}
