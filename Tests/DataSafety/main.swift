import Chance
import Foundation
import Glibc

// data-safety NVMEPF ROUNDS SEED [BACKEND FILE [CUT]]
//
// Serves a file, or BACKEND, with NVMEPF; writes it with and without Force Unit Access, makes it zero, deallocates and
// flushes; kills the server with SIGKILL in the middle of that, ROUNDS times, and looks each time whether the file, or FILE,
// holds what it must: every block that was acknowledged, or something newer; and no block in pieces.
//
// CUT is a command that makes the device behind BACKEND forget what it has not been told to keep, as a power cut does. Then
// only what was acknowledged before an acknowledged flush, or with Force Unit Access, must be there; and in some round the
// device must have forgotten something, or the test shows nothing.

/// - Returns: what is wrong with the file, and how many units have lost what was acknowledged, as they may.
func check(_ path: String, _ units: Units, _ model: inout Model) throws -> (problems: [String], lost: Int) {
  guard let file = FileHandle(forReadingAtPath: path), let data = try file.read(upToCount: units.bytes),
    data.count == units.bytes
  else { return (["\(path) cannot be read"], 0) }
  var problems: [String] = []
  var lost = 0
  data.withUnsafeBytes { bytes in
    for unit in 0..<Units.count {
      let words = UnsafeRawBufferPointer(rebasing: bytes[units.range(unit)]).bindMemory(to: UInt64.self)
      let value = words[0]
      let history = model.history[unit]
      if !words.allSatisfy({ $0 == value }) { problems.append("unit \(unit) is in pieces") }
      if let tag = history.tag(of: value) {
        if tag < history.acknowledged { lost += 1 }
      } else {
        problems.append("unit \(unit) holds \(value), it must hold \(history.durable) or newer")
      }
      // The next round begins with what is there.
      model.history[unit] = BlockHistory(found: Version(tag: model.tag, value: value))
    }
  }
  return (problems, lost)
}

/// Start a server, and connect as soon as it listens.
func serve(_ nvmepf: String, _ backend: String, socket: String, log: String) throws -> Round {
  try Data().write(to: URL(fileURLWithPath: log))
  let server = Process()
  server.executableURL = URL(fileURLWithPath: nvmepf)
  server.arguments = ["serve", "--socket", socket, "--backend", backend]
  server.standardError = FileHandle(forWritingAtPath: log)
  try server.run()
  // The socket is there a moment before anybody listens.
  var refusal = ""
  while server.isRunning {
    do { return try Round(server, path: socket) } catch { refusal = "\(error)" }
  }
  print("the server ended by itself: \(refusal)\n\((try? String(contentsOfFile: log, encoding: .utf8)) ?? "")")
  exit(1)
}

func cutPower(_ command: String) throws {
  let shell = try Process.run(URL(fileURLWithPath: "/bin/sh"), arguments: ["-c", command])
  shell.waitUntilExit()
  guard shell.terminationStatus == 0 else {
    print("the power could not be cut: \(command)")
    exit(1)
  }
}

let arguments = CommandLine.arguments
guard [4, 6, 7].contains(arguments.count), let rounds = Int(arguments[2]), let seed = UInt64(arguments[3]) else {
  print("usage: data-safety NVMEPF ROUNDS SEED [BACKEND FILE [CUT]]")
  exit(2)
}
let directory = NSTemporaryDirectory() + "/nvmepf-safety-\(getpid())"
try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
let own = directory + "/namespace"
let (backend, file) = arguments.count > 4 ? (arguments[4], arguments[5]) : (own, own)
let cut = arguments.count > 6 ? arguments[6] : nil
if backend == own { try Data(count: 1 << 20).write(to: URL(fileURLWithPath: own)) }
var model = Model(random: SeededGenerator(seed: seed), keepsAcknowledged: cut == nil)
var failures = 0
var forgotten = 0
for number in 1...rounds {
  var round = try serve(
    arguments[1], backend, socket: directory + "/socket\(number)", log: directory + "/log")
  round.run(&model)
  if let cut { try cutPower(cut) }
  let (problems, lost) = try check(file, round.units, &model)
  for problem in problems { print("round \(number): \(problem)") }
  failures += problems.count
  forgotten += lost
}
print("\(rounds) rounds, \(model.tag) writes, \(forgotten) forgotten, \(failures) failures; seed \(seed)")
if cut != nil, forgotten == 0 { print("nothing was ever forgotten: the power was not cut") }
try? FileManager.default.removeItem(atPath: directory)
exit(failures == 0 && (cut == nil || forgotten > 0) ? 0 : 1)
