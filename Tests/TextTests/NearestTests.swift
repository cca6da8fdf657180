import Testing
import Text

@Suite("Similar names")
struct NearestTests {
  @Test("the nearest name is meant, unless none is near")
  func nearest() {
    let names = ["read", "write", "identify", "stage.execute", "qid"]
    #expect("reed".nearest(among: names) == "read")
    #expect("writte".nearest(among: names) == "write")
    #expect("stage.exekut".nearest(among: names) == "stage.execute")
    #expect("qd".nearest(among: names) == "qid")
    for text in ["", "end", "rite off", "stage", String(repeating: "r", count: 100)] {
      #expect(text.nearest(among: names) == nil, "\(text)")
    }
    #expect("read".nearest(among: []) == nil)
  }
}
