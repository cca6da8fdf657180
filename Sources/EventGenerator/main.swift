import EventTable
import Foundation

// event-generator swift|c OUTPUT - generates code from the event table: the events' types in Swift, or the header of
// the kernel's probes. The package's build plugins run it.

let arguments = CommandLine.arguments
guard arguments.count == 3, let source = ["swift": swiftSource, "c": cHeader][arguments[1]] else {
  FileHandle.standardError.write(Data("usage: event-generator swift|c OUTPUT\n".utf8))
  exit(2)
}
do {
  try source().write(toFile: arguments[2], atomically: false, encoding: .utf8)
} catch {
  FileHandle.standardError.write(Data("event-generator: \(arguments[2]): \(error.localizedDescription)\n".utf8))
  exit(1)
}
