import Testing

@testable import Simulation

@Suite("A report's stages, when time is added at a known point")
struct TruthTests {
  @Test(
    "the added time is where it belongs, to the nanosecond, and nowhere else", arguments: DelayPoint.allCases)
  func attribution(point: DelayPoint) {
    var table = TruthTable(isWhole: false)
    let row = table.row(point)
    #expect(row.failures.isEmpty)
    #expect(!row.runs.isEmpty)
  }
}
