import Events
import KernelStreams
import Testing

@Suite("The reader of the kernel's streams") struct KernelStreamsTests {
  private func ingest(
    _ streams: inout KernelStreams, _ record: Record, tail: [UInt8] = [], stream: UInt16 = 0
  ) -> KernelStreams.Item? {
    tail.withUnsafeBytes { streams.ingest(record, tail: $0, stream: stream) }
  }

  private func owner(_ item: KernelStreams.Item?) -> StreamOwner? {
    if case .owner(let owner)? = item { owner } else { nil }
  }

  @Test("An event belongs to the last origin of its stream")
  func owners() {
    var streams = KernelStreams()
    let work = Event.Work(qid: 1).record
    let before = ingest(&streams, work, stream: 4)
    #expect(before == nil)
    for number in [3, 9] as [UInt16] {
      _ = ingest(&streams, Event.Origin(flags: .host, controller: number, cntlid: 7).record, stream: 4)
      guard case .event(.work, let owner)? = ingest(&streams, work, stream: 4) else {
        Issue.record("the event is nobody's")
        return
      }
      #expect(owner.isHost(number) && !owner.isTarget(number) && owner.drives(7, of: ""))
    }
    let elsewhere = ingest(&streams, work, stream: 5)
    #expect(elsewhere == nil)
  }

  @Test("A gap counts in whichever stream it is")
  func gaps() {
    var streams = KernelStreams()
    guard case .gap(let gap)? = ingest(&streams, Event.Gap(events: 5).record, stream: 77) else {
      Issue.record("no gap")
      return
    }
    #expect(gap.events == 5)
  }

  @Test("A name ends where the bytes do, where the event says, and after 223 bytes")
  func names() {
    var streams = KernelStreams()
    let bytes = [UInt8](repeating: 0x61, count: 256)
    for (length, count, expected) in [(3, 32, 3), (40, 32, 32), (.max, 256, 223)] as [(UInt32, Int, Int)] {
      let origin = Event.Origin(flags: .bytes, length: length).record
      let owner = owner(ingest(&streams, origin, tail: Array(bytes[..<count])))
      #expect(owner?.nqn.utf8.count == expected)
    }
    let unnamed = owner(ingest(&streams, Event.Origin(length: 3).record, tail: bytes))
    #expect(unnamed?.nqn == "")
  }

  @Test("The identifier of a failed fetch is no command until another fetch uses it")
  func failedFetches() {
    var failed = FailedFetches()
    let dropped = Event.Dropped(qid: 1, cid: 2)
    var answers = [failed.ingest(Event.Fetch(flags: .failed, qid: 1, cid: 2)), failed.ingest(dropped)]
    #expect(answers == [true, true])
    answers = [failed.ingest(dropped), failed.ingest(Event.Dropped(flags: .failed))]
    #expect(answers == [false, true])
    answers = [
      failed.ingest(Event.Fetch(flags: .failed, qid: 1, cid: 2)), failed.ingest(Event.Dropped(qid: 2, cid: 1)),
      failed.ingest(Event.Fetch(qid: 1, cid: 2)), failed.ingest(dropped),
    ]
    #expect(answers == [true, false, false, false])
  }

  @Test("The doubt of joined gaps begins with the first, as far as a gap can say")
  func joinedGaps() {
    let first = Event.Gap(time: 1_000_000, flags: .notRun, events: 2, since: 400_000)
    var joined = first.joined(Event.Gap(time: 5_000_000, flags: .notRun, events: 3, since: 1000))
    #expect(joined.time == 5_000_000 && joined.events == 5 && joined.doubtBegin == 600_000)
    // The span has 32 bits: no bit of it may reach another place of the record.
    joined = first.joined(Event.Gap(time: 10_000_000_000, flags: .notRun, events: .max, since: 1000))
    #expect(joined.events == .max && joined.since == .max && Event.Gap(joined.record).since == .max)
    #expect(!first.joined(Event.Gap(time: 2_000_000)).flags.contains(.notRun))
  }
}
