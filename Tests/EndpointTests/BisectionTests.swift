import Endpoint
@_spi(Places) import Events
import Foundation
import Simulation
import Testing
import Trace

@testable import Replay

/// What `replay --bisect` names. The recording is given the state of another engine: from some event on, a field of every
/// checkpoint and hash has another value.
@Suite("Bisection")
struct BisectionTests {
  private let folder: String

  init() {
    var template = Array("/tmp/nvmepf-test-XXXXXX".utf8CString)
    folder = String(cString: mkdtemp(&template)!)
  }

  /// The engine's events with their tails.
  private typealias Events = [[Record]]

  private func record(every: UInt64?, seed: UInt64 = 7, commands: UInt64 = 1500) throws -> Events {
    var simulation = Simulation(seed: seed, commands: commands)
    simulation.hasFaults = false
    simulation.stateHashEvery = every
    #expect(try simulation.run(path: folder + "/run.nvpt").failure == nil)
    let reader = try TraceReader(path: folder + "/run.nvpt")
    var events: Events = []
    for (id, chunks) in reader.streams where id.source == .engine {
      let source = try reader.source(of: chunks)
      while let slots = try source() {
        var place = 0
        while place < slots.count {
          events.append(Array(slots[place...(place + Int(slots[place].tail))]))
          place += events.last!.count
        }
      }
    }
    return events
  }

  /// What a trace with these events tells; nil if it does not diverge.
  private func bisect(_ events: Events) throws -> Bisection? {
    let original = try TraceReader(path: folder + "/run.nvpt")
    let copy = try TraceCopy(folder + "/wrong.nvpt", header: original.header, of: original)
    for event in events {
      try event.withUnsafeBufferPointer { slots throws(TraceError) in
        try copy.append(slots.baseAddress!, as: StreamID(source: .engine, stream: 0))
      }
    }
    try copy.close(end: original.end)
    try copy.publish()
    let reader = try TraceReader(path: folder + "/wrong.nvpt")
    return try ReplayResult(replaying: reader).divergence.flatMap { try Bisection(reader, $0) }
  }

  /// Replay; after each step `change` gets its events and the state as the recorded engine shall have had it.
  /// - Returns: the events with these states.
  private func withStates(
    _ events: Events, _ change: (_ step: Range<Int>, _ state: inout [UInt8]) -> Void
  ) throws -> Events {
    var (all, isGiven) = (events.flatMap { $0 }, false)
    var changed = events
    try all.withUnsafeMutableBufferPointer { all in
      let all = all
      var replayer = try Replayer(stream: 0, isClosed: true) { () throws(TraceError) in
        defer { isGiven = true }
        return isGiven ? nil : UnsafeBufferPointer(all)
      }
      var begin = Int(replayer.event)
      while try replayer.step() {
        let step = begin..<Int(replayer.event)
        begin = step.upperBound
        guard replayer.isBetweenPasses else { break }
        var state = replayer.checkpoint()
        let own = state
        change(step, &state)
        guard state != own else { continue }
        for number in step where changed[number][0].is(.stateHash) {
          var event = Event.StateHash(changed[number][0])
          event.hash = state.withUnsafeBytes { StateHash(of: $0).value }
          changed[number][0] = event.record
        }
        for number in step where changed[number][0].is(.checkpoint) {
          let tail = changed[number][0].tail
          changed[number].withUnsafeMutableBytes {
            UnsafeMutableRawBufferPointer(rebasing: $0[Record.size...]).copyBytes(from: state)
          }
          changed[number][0].tail = tail
        }
      }
      #expect(replayer.divergence() == nil)
    }
    return changed
  }

  private func field(_ path: String, _ state: [UInt8]) throws -> StateField {
    try #require(state.withUnsafeBytes { Controller.fields(of: $0) }.first { $0.path == path })
  }

  /// From the event on, the recorded engine counts one unsafe shutdown more.
  private func withUnsafeShutdown(_ events: Events, from event: Int) throws -> (Events, step: Range<Int>) {
    var found: Range<Int>?
    let changed = try withStates(events) { step, state in
      guard step.upperBound > event else { return }
      found = found ?? step
      if let place = try? field("unsafe shutdowns", state).offset { state[place] += 1 }
    }
    return (changed, try #require(found))
  }

  private func pass(_ events: Events) throws -> Int {
    try #require(events.indices.dropFirst(events.count / 3).first { events[$0][0].is(.doorbell) })
  }

  @Test("with a hash after every pass the exact pass is named, and the field")
  func exact() throws {
    let events = try record(every: 1)
    let (wrong, step) = try withUnsafeShutdown(events, from: try pass(events))
    let found = try #require(try bisect(wrong))
    #expect(found.certainty == .exact && found.steps.count == 1)
    #expect(found.divergence.recordedKind == .stateHash && found.divergence.later?.kind == .checkpoint)
    #expect(found.events.lowerBound >= step.lowerBound && found.events.upperBound <= step.upperBound)
    #expect(found.fields.map(\.name) == ["unsafe shutdowns"] && found.fields[0].changes.isEmpty)
    #expect(found.differs == UInt64(step.upperBound - 1))
    #expect(found.words.first?.text.hasPrefix("doorbell") == true, "\(found)")
    #expect(found.divergence.summary.hasPrefix("state: unsafe shutdowns: recorded "))
  }

  @Test("with fewer hashes the interval contains the pass, and is no longer than that between two hashes")
  func interval() throws {
    let events = try record(every: 500)
    let (wrong, step) = try withUnsafeShutdown(events, from: try pass(events))
    let found = try #require(try bisect(wrong))
    #expect(found.certainty == .earliest && found.steps.count > 1)
    #expect(found.steps.contains { Int($0.lowerBound) >= step.lowerBound && Int($0.lowerBound) < step.upperBound })
    #expect(found.agreed < step.lowerBound && found.differs >= step.lowerBound)
    #expect(events[Int(found.agreed)][0].is(.stateHash) && events[Int(found.differs)][0].is(.stateHash))
    #expect(found.differs - found.agreed < 500)
    #expect(found.description.contains("the replay does not change it in between"))
  }

  /// From the event on, the recorded engine does not change the field.
  private func frozen(_ name: String, _ events: Events, from first: Int) throws -> (Events, step: Range<Int>) {
    var (kept, step): ([UInt8]?, Range<Int>?)
    let wrong = try withStates(events) { now, state in
      guard let field = try? field(name, state) else { return }
      let bytes = Array(state[field.offset..<field.offset + field.length])
      guard now.lowerBound >= first else {
        kept = bytes
        return
      }
      if bytes != kept, step == nil { step = now }
      state.replaceSubrange(field.offset..<field.offset + field.length, with: kept!)
    }
    return (wrong, try #require(step))
  }

  @Test("a field that the recorded engine has not changed since the states agreed names the pass that changes it")
  func likely() throws {
    let events = try record(every: 500)
    let hash = try #require(events[try pass(events)...].firstIndex { $0[0].is(.stateHash) })
    let name = "host read commands"
    let (wrong, pass) = try frozen(name, events, from: hash + 1)
    let found = try #require(try bisect(wrong))
    #expect(found.certainty == .likely && found.agreed == hash, "\(found)")
    #expect(Int(found.events.lowerBound) >= pass.lowerBound && Int(found.events.upperBound) <= pass.upperBound)
    #expect(found.fields.contains { $0.name == name && $0.changes.count > 1 })
  }

  @Test("a field that the recorded engine changed as well names no pass as likely")
  func counted() throws {
    let events = try record(every: 500)
    let name = "host read commands"
    let hash = try #require(events[try pass(events)...].firstIndex { $0[0].is(.stateHash) })
    let (_, first) = try frozen(name, events, from: hash + 1)
    let (wrong, step) = try frozen(name, events, from: first.upperBound)
    let found = try #require(try bisect(wrong))
    #expect(found.certainty == .earliest && found.agreed == hash, "\(found)")
    #expect(found.events.lowerBound >= first.lowerBound && Int(found.events.lowerBound) < step.lowerBound)
  }

  @Test("one flipped bit of a hash diverges there, and nowhere else")
  func flipped() throws {
    let events = try record(every: 1, commands: 200)
    let hashes = events.indices.filter { events[$0][0].is(.stateHash) }
    for bit in [0, 17, 63] {
      var wrong = events
      let place = hashes[hashes.count / 2 + bit]
      wrong[place][0].a ^= 1 << UInt64(bit)
      let found = try #require(try bisect(wrong))
      #expect(found.divergence.event == UInt64(place) && found.divergence.fields.map(\.name) == ["hash of the state"])
      #expect(found.differs == UInt64(place) && found.agreed < UInt64(place) && found.fields.isEmpty)
      #expect(found.certainty == .exact && found.steps.count == 1)
    }
    // Right after its checkpoint.
    var wrong = events
    wrong[hashes[0]][0].a ^= 1
    let found = try #require(try bisect(wrong))
    #expect(found.steps.isEmpty && found.summary.contains("contradicts itself"))
  }

  @Test("an output that differs is named, and the pass if the states agreed before it")
  func output() throws {
    for every in [1, 500] as [UInt64] {
      var wrong = try record(every: every)
      let place = try #require(wrong.indices.dropFirst(wrong.count / 2).first { wrong[$0][0].is(.completion) })
      wrong[place][0].bLow ^= 1
      let found = try #require(try bisect(wrong))
      #expect(found.certainty == (every == 1 ? .exact : .output))
      #expect(found.events == UInt64(place)..<UInt64(place) + 1 && found.differs == UInt64(place))
      #expect(found.summary.hasPrefix("the first \(every == 1 ? "event" : "output") that differs is #\(place)"))
      #expect(found.summary.hasSuffix("; the states agreed before its pass") == (every == 1))
    }
  }

  @Test("an output whose command began before the last checkpoint is found from an earlier one")
  func acrossCheckpoint() throws {
    var wrong = try record(every: 1, commands: 6000)
    var (begun, last): (Set<[UInt16]>, Int?) = ([], nil)
    let place = try #require(
      wrong.indices.first { number in
        let record = wrong[number][0]
        if record.is(.checkpoint), number > 0 { (begun, last) = ([], number) }
        if record.is(.executeBegin) {
          let begin = Event.ExecuteBegin(record)
          begun.insert([begin.qid, begin.cid])
        }
        guard record.is(.executeEnd) else { return false }
        let end = Event.ExecuteEnd(record)
        return last != nil && end.flags.contains(.later) && !begun.contains([end.qid, end.cid])
      })
    var event = Event.ExecuteEnd(wrong[place][0])
    event.cid ^= 0x10
    wrong[place][0] = event.record
    let found = try #require(try bisect(wrong))
    #expect(found.divergence.event == place && found.differs == place && found.certainty == .exact)
    #expect(try found.agreed < place && found.agreed > #require(last), "\(found)")
    #expect(found.divergence.inFlight != nil)
  }

  @Test("events that do not fit are told as such")
  func others() throws {
    let events = try record(every: 1)
    // A pass with many events.
    let hashes = events.indices.filter { events[$0][0].is(.stateHash) }
    let long = try #require(
      zip(hashes, hashes.dropFirst()).first {
        $1 - $0 > 15 && !events[$0...$1].contains { $0[0].is(.checkpoint) }
      })
    let (wrong, _) = try withUnsafeShutdown(events, from: long.0 + 1)
    let found = try #require(try bisect(wrong))
    #expect(found.events.count > found.words.count && found.description.contains("\n    and others\n"), "\(found)")
  }

  @Test("differences of unlike fields are unlike divergences, though each shows as a hash")
  func groups() throws {
    let events = try record(every: 500, commands: 6000)
    let checkpoints = events.indices.filter { events[$0][0].is(.checkpoint) }
    try #require(checkpoints.count > 2)
    let begins = zip(checkpoints, checkpoints.dropFirst()).map { ($0 + $1) / 2 }
    let wrong = try withStates(events) { step, state in
      for (begin, name) in zip(begins, ["unsafe shutdowns", "host read commands"]) where step.lowerBound > begin {
        if let place = try? field(name, state).offset { state[place] &+= 1 }
      }
    }
    _ = try bisect(wrong)
    let result = try ReplayResult(replaying: TraceReader(path: folder + "/wrong.nvpt"), keepsGoing: true)
    #expect(result.groups.map { $0.first.recordedKind } == [.stateHash, .stateHash])
    #expect(
      result.groups.map { $0.first.later?.fields.map(\.name) } == [["unsafe shutdowns"], ["host read commands"]])
  }

  @Test("a length that differs alone is named")
  func length() throws {
    var wrong = try record(every: 1, commands: 200)
    let hashes = wrong.indices.filter { wrong[$0][0].is(.stateHash) }
    let place = hashes[hashes.count / 2]
    var event = Event.StateHash(wrong[place][0])
    event.length += 8
    wrong[place][0] = event.record
    let found = try #require(try bisect(wrong))
    #expect(found.divergence.event == place && found.divergence.fields.map(\.name) == ["length of the state"])
  }

  @Test("a trace without hashes is narrowed by its checkpoints")
  func withoutHashes() throws {
    let events = try record(every: 1 << 40).filter { !$0[0].is(.stateHash) }
    let (wrong, step) = try withUnsafeShutdown(events, from: try pass(events))
    let found = try #require(try bisect(wrong))
    #expect(found.divergence.recordedKind == .checkpoint && found.fields.map(\.name) == ["unsafe shutdowns"])
    #expect(found.agreed < step.lowerBound && found.differs >= step.lowerBound)
  }

  @Test("arbitrary hashes and lengths end a replay with a divergence")
  func hostile() throws {
    let events = try record(every: 1, commands: 100)
    let hashes = events.indices.filter { events[$0][0].is(.stateHash) }
    for value in [0, 1, UInt64.max] {
      var wrong = events
      for place in hashes { (wrong[place][0].a, wrong[place][0].b) = (value, value) }
      // Length 0: the hash is not known.
      #expect((try bisect(wrong) == nil) == (value == 0))
      let stray = wrong[hashes[0]]
      for place in wrong.indices.dropFirst(2).reversed() where place % 3 == 0 { wrong.insert(stray, at: place) }
      _ = try bisect(wrong)
    }
  }
}
