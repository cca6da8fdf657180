import Chance
import Foundation
import TestSeed
import Testing

@testable import Faults

@Suite("Texts of faults")
struct FaultTextTests {
  private func refusal(_ text: String) -> String? {
    do { _ = try Fault(text) } catch { return error.description }
    return nil
  }

  @Test("a SPEC says what it does and whom it strikes")
  func parses() throws {
    let error = try Fault("error=unrecovered-read-error,opcode=read,lba=100..199,rate=0.01,nsid=2,qid=1,dnr")
    #expect(error.kind == .error && error.status == 0x4281)
    #expect(error.selection.opcode == 2 && error.selection.lba == 100...199 && error.selection.rate == 0.01)
    #expect(error.selection.nsid == 2 && error.selection.qid == 1)
    let drop = try Fault("drop-completion,after=10,every=1000,times=3,after-wrap,hole")
    #expect(drop.selection.after == 10 && drop.selection.every == 1000 && drop.selection.times == 3)
    #expect(drop.selection.afterWrap && drop.leavesHole)
    let delay = try Fault("delay=data-in:50us,sleep")
    #expect(delay.stage == .dataIn && delay.ns == 50_000 && delay.sleeps)
    #expect(try Fault("stall").ns == .max && Fault("stall=2s,once").ns == 2_000_000_000)
    #expect(try Fault("wrong-sqhd").offset == 1 && Fault("wrong-cid=7").offset == 7)
    #expect(try Fault("drop-interrupt,coalesced").selection.coalesced)
    let slow = "slow-request=2s,qid=0,opcode=flush"
    #expect(try Fault(slow).description == slow)
    #expect(try Fault("late-completion=forever").ns == .max && Fault("slow-request=1.5ms").ns == 1_500_000)
  }

  @Test("a SPEC that is wrong is refused with what is allowed")
  func refuses() {
    let cases = [
      ("", "is not a fault; use delay, error, drop-completion"), ("reap", "is not a fault"),
      ("execute=5us", "a delay is delay=execute:5us"), ("delay", "not a stage of the engine"),
      ("delay=reap:1us", "not a stage of the engine; use delay=STAGE:TIME with detect, fetch"),
      ("delay=map", "needs a time from 1ns to 1s"), ("delay=map:2s", "needs a time from 1ns to 1s"),
      ("delay=map:0us", "needs a time"), ("delay=map:1", "needs a time"), ("delay=map:forever", "needs a time"),
      ("error", "needs a status"), ("error=0", "needs a status"), ("error=nonsense", "needs a status"),
      ("error=0x800", "needs a status"), ("error=0xzz", "needs a status"),
      ("drop-completion=3", "has no value"), ("late-completion", "needs a time from 1ns to 1h or forever"),
      ("late-completion=2h", "needs a time"), ("wrong-sqhd=0", "1 to 65535"), ("wrong-cid=65536", "1 to 65535"),
      ("stall,qid=129", "\"qid=129\" is invalid; stall takes qid=N (0 to 128)"), ("stall,queue=1", "is invalid"),
      ("stall,every=0", "is invalid"), ("stall,times=0", "is invalid"), ("stall,once=1", "is invalid"),
      ("stall,hole", "is invalid"), ("stall,after-wrap", "is invalid"), ("stall,", "\"\" is invalid"),
      ("stall,nsid=0", "is invalid"), ("stall,dnr", "is invalid"), ("stall,coalesced", "is invalid"),
      ("stall,rate=0", "rate must be"), ("stall,rate=1.1", "rate must be"), ("stall,rate=nan", "rate must be"),
      ("stall,lba=5..4", "lba needs"), ("stall,lba=..", "lba needs"), ("stall,lba=1-2", "lba needs"),
      ("stall,opcode=reed", "opcode needs"), ("stall,opcode=256", "opcode needs"),
      ("stuck-doorbell,opcode=read", "takes no opcode"), ("delay=fetch:1us,lba=3", "delay=fetch happens"),
      ("drop-interrupt,nsid=1", "takes no opcode, lba or nsid"),
      ("link-loss,qid=0", "strikes I/O commands only"), ("delay=map:1us,qid=0", "delay=map strikes I/O commands only"),
      ("error=6,qid=0,opcode=identify", "only the flush of a shutdown or a Set Features"),
      ("stall," + String(repeating: "x", count: 2000), "more than"),
    ]
    for (text, reason) in cases {
      let said = refusal(text)
      #expect(said?.contains(reason) == true, "\(text.prefix(60)): \(said ?? "accepted")")
      #expect(said?.contains("\n") != true)
    }
  }

  @Test("the text of a fault describes the same fault, whatever it is")
  func roundTrips() throws {
    var random = drawnNumbers("faults")
    for _ in 0..<5000 {
      let text = FaultTextTests.draw(&random)
      let fault = try Fault(text)
      #expect(try Fault(fault.description) == fault, "\(text): \(fault)")
    }
  }

  /// A valid SPEC.
  private static func draw(_ random: inout SeededGenerator) -> String {
    let kind = Fault.Kind.allCases.randomElement(using: &random)!
    let stage = Fault.Stage.allCases.randomElement(using: &random)!
    let time = ["3ns", "20us", "7ms", "1s", "999999ns"].randomElement(using: &random)!
    var parts = [kind.name]
    switch kind.value {
    case .none: break
    case .time(let isRequired):
      if isRequired || Bool.random(using: &random) {
        parts[0] += "=" + (["forever", time].randomElement(using: &random)!)
      }
    case .stageAndTime: parts[0] += "=\(stage.name):\(time)"
    case .status: parts[0] += "=\(UInt16.random(in: 1...0x7ff, using: &random))"
    case .offset: parts[0] += "=\(UInt16.random(in: 1 ... .max, using: &random))"
    }
    let isForAdmin = kind.strikesAdmin(stage) && Bool.random(using: &random)
    var all = [
      "qid=\(isForAdmin ? 0 : UInt16.random(in: 1...128, using: &random))",
      "every=\(UInt64.random(in: 1 ... .max, using: &random))",
      "after=\(random.next())", "rate=\(Double.random(in: 0.001...1, using: &random))", "once",
      "times=\(UInt64.random(in: 1 ... .max, using: &random))",
    ]
    if kind.knowsCommand(stage) {
      let block = random.next() >> 1
      all += [
        "opcode=\(isForAdmin && kind.isOfBackend(stage) ? 0 : UInt8.random(in: 0 ... .max, using: &random))",
        "lba=\(block)..\(block + 5)",
        "nsid=\(UInt32.random(in: 1 ... .max, using: &random))",
      ]
    }
    if kind.isOfCompletion { all.append("after-wrap") }
    if kind.isOfInterrupt { all.append("coalesced") }
    switch kind {
    case .delay: all += ["spin", "sleep"]
    case .error: all.append("dnr")
    case .dropCompletion: all.append("hole")
    default: break
    }
    for condition in all where Int.random(in: 0..<3, using: &random) == 0 { parts.append(condition) }
    return parts.joined(separator: ",")
  }

  @Test("no text makes the parser fail otherwise than by an error of one line")
  func survives() {
    var random = drawnNumbers("hostile texts")
    let pieces = [
      "delay", "=", ":", ",", "..", "lba", "rate", "every", "0x", "-", "1e999", "forever", "\u{0}", "é", "٣", "\n",
      "99999999999999999999",
      "error", "stall", "execute", "us", "s", " ", "opcode", "nan", "inf", "once", "0", "1", "#",
    ]
    for _ in 0..<20_000 {
      var text = Bool.random(using: &random) ? FaultTextTests.draw(&random) : ""
      for _ in 0..<Int.random(in: 0..<6, using: &random) {
        let place = text.index(text.startIndex, offsetBy: Int.random(in: 0...text.count, using: &random))
        text.insert(contentsOf: pieces.randomElement(using: &random)!, at: place)
      }
      guard let fault = try? Fault(text) else { continue }
      #expect((try? Fault(fault.description)) == fault, "\(text)")
    }
  }

  @Test("a file has one SPEC on each line, comments and empty lines")
  func readsFile() throws {
    let text = "# faults of a bad device\n\n  drop-completion,once  # the first\r\nstall=1s\n"
    #expect(try Fault.parse(file: text).map(\.kind) == [.dropCompletion, .stall])
    #expect(throws: FaultError.self) { try Fault.parse(file: String(repeating: "stall\n", count: 257)) }
    do {
      _ = try Fault.parse(file: "stall\n\nstal\n")
      Issue.record("accepted")
    } catch { #expect(error.description.hasPrefix("line 3: stal: \"stal\" is not a fault")) }
  }

  @Test("the faults of a torment are valid, and of every kind")
  func trials() throws {
    let kinds = try Fault.trials.map { try Fault($0).kind }
    #expect(Set(kinds) == Set(Fault.Kind.allCases))
  }

  @Test("a guest meets faults of every kind, each on a line with what is expected")
  func guestFaults() throws {
    let list = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Guest/vfio-user/faults.txt")
    let lines = try String(contentsOf: list, encoding: .utf8).split(separator: "\n").filter { !$0.hasPrefix("#") }
    var kinds: Set<Fault.Kind> = []
    for line in lines {
      let columns = line.split(separator: "|", maxSplits: 5)
      #expect(columns.count == 6, "\(line)")
      for spec in columns[1].split(separator: " ") { kinds.insert(try Fault(String(spec)).kind) }
    }
    #expect(kinds == Set(Fault.Kind.allCases))
  }
}
