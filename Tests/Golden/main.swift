import Glibc
import Service

// record-golden SCENARIO FILE
//
// Records a golden trace anew (scripts/record-golden.sh).

guard CommandLine.arguments.count == 3, let scenario = GoldenScenario(rawValue: CommandLine.arguments[1]) else {
  let names = GoldenScenario.allCases.map(\.rawValue).joined(separator: ", ")
  complain("record-golden takes a scenario and a file; the scenarios are \(names)")
  exit(2)
}
do { try scenario.record(to: CommandLine.arguments[2]) } catch {
  complain("\(error)")
  exit(1)
}
