import Analysis
@_spi(Places) import Events
import NVMe
import Testing
import Trace

@Suite("A command's stages")
struct StageTests {
  private func stages(of way: Way) -> CommandTimes? {
    var script = Script.enabled()
    way.play(at: 1000, into: &script)
    let commands = script.run().commands
    return commands.count == 1 ? commands[0] : nil
  }

  @Test("lie between the host's two doorbells, where there is a host stream")
  func withHost() throws {
    let times = try #require(stages(of: Way(cid: 7)))
    #expect(times.begin == 1000)
    #expect(times.end == 1000 + 120 + 60 + 10 + 40 + 900 + 300 + 25 + 15 + 200)
    #expect(times.hostSubmit == 30)
    #expect(times.handling == 50)
    #expect(times.undetectedMax == nil)
    #expect(
      Stage.allCases.map { times.stages[$0] } == [120, 60, 10, 40, 0, 900, 300, 25, 15, 200, 0])
    #expect(times.turn == 20)
    #expect(times.unexplained == 0)
    #expect(times.bytesToHost == 4096 && times.bytesFromHost == 0)
  }

  @Test("lie between what the engine saw of the doorbells, where there is none")
  func withoutHost() throws {
    let times = try #require(stages(of: Way(cid: 7, hasHost: false)))
    #expect(times.begin == 1100)
    #expect(times.hostSubmit == nil)
    #expect(times.undetectedMax == 100)
    #expect(
      Stage.allCases.map { times.stages[$0] } == [20, 60, 10, 40, 0, 900, 300, 25, 15, 280, 0])
  }

  @Test("move a write's data in before it is executed")
  func write() throws {
    let times = try #require(stages(of: Way(opcode: 1, dataIn: 250, dataOut: 0)))
    #expect(times.stages[.dataIn] == 250)
    #expect(times.stages[.execute] == 900)
    #expect(times.stages[.dataOut] == 0)
    #expect(times.unexplained == 0)
    #expect(times.bytesFromHost == 4096)
  }

  @Test("leave time that is in none of them unexplained")
  func unexplained() throws {
    let times = try #require(stages(of: Way(afterMap: 70, afterExecute: 5)))
    #expect(times.unexplained == 75)
    #expect(times.stages.sum + 75 == times.total)
  }

  @Test("need no interrupt")
  func noInterrupt() throws {
    let times = try #require(stages(of: Way(interrupt: nil)))
    #expect(times.stages[.interrupt] == 0)
    #expect(times.stages[.reap] == 200)
  }

  @Test("take the time of a delay where it was put, and nowhere else", arguments: Stage.allCases)
  func attribution(stage: Stage) throws {
    var way = Way(dataIn: 90)
    let before = try #require(stages(of: way))
    switch stage {
    case .detect: way.unseen += 5000
    case .fetch: way.fetch += 5000
    case .dispatch: way.dispatch += 5000
    case .map: way.map += 5000
    case .dataIn: way.dataIn += 5000
    case .execute: way.execute += 5000
    case .dataOut: way.dataOut += 5000
    case .complete: way.complete += 5000
    case .interrupt: way.interrupt = 5015
    case .reap: way.reap += 5000
    case .recording: way.digest += 5000
    }
    let after = try #require(stages(of: way))
    for other in Stage.allCases {
      #expect(after.stages[other] - before.stages[other] == (other == stage ? 5000 : 0), "\(other)")
    }
    #expect(after.unexplained == before.unexplained)
  }

  @Test("show waiting for room in the completion queue as a part of complete")
  func queueFull() throws {
    var script = Script.enabled()
    // The queue is found full at 2100 and has room again at 5000.
    script.tail(at: 900, 1)
    script.fetch(at: 1000, cid: 3, slot: 0)
    script.add(Record(time: 1400, kind: .executeBegin, flags: 2, qid: 1, cid: 3))
    script.add(Record(time: 2000, kind: .executeEnd, qid: 1, cid: 3))
    script.add(Record(time: 2100, kind: .completionQueueFull, qid: 1))
    script.head(at: 5000, 5)
    script.completion(at: 5040, cid: 3)
    script.head(at: 6000, 6)
    let run = script.run()
    #expect(run.commands.count == 1)
    let times = try #require(run.commands.first)
    #expect(times.stages[.complete] == 3040)
    #expect(times.queueFull == 2900)
  }

  @Test("give admin data that the engine wrote to data-out, and what it read after the map to data-in")
  func adminData() throws {
    var script = Script.enabled()
    script.tail(at: 100, qid: 0, 1)
    script.fetch(at: 150, span: 20, qid: 0, cid: 1, slot: 0, opcode: AdminOpcode.identify.rawValue)
    script.add(Record(time: 180, kind: .read, qid: 0, cid: 1, b: Record.pair(64, 10)))
    script.add(Record(time: 200, kind: .map, qid: 0, cid: 1, b: 40))
    script.add(Record(time: 230, kind: .read, qid: 0, cid: 1, b: Record.pair(64, 30)))
    script.add(Record(time: 300, kind: .write, qid: 0, cid: 1, b: Record.pair(4096, 70)))
    script.completion(at: 310, qid: 0, cid: 1)
    script.head(at: 400, qid: 0, 1)
    let times = try #require(script.run().commands.first)
    #expect(Stage.allCases.map { times.stages[$0] } == [30, 20, 10, 40, 30, 0, 70, 10, 0, 90, 0])
    #expect(times.unexplained == 0)
  }
}
