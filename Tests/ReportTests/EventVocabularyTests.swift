import EventTable
import EventWords
@_spi(Places) import Events
import Expressions
import NVMe
import Testing
import Text
import Trace

@testable import Report

/// Each kind of event of each golden trace, with what `dump` says of it.
private func forEachGoldenEvent(_ body: (UnsafePointer<Record>, Source, UInt16) throws -> Void) throws {
  for name in ["qd1-read", "qd32-mixed", "errors", "two-queues", "coalescing", "reset-in-flight", "nvmet-pci-epf"] {
    let path = #filePath.replacing("Tests/ReportTests/EventVocabularyTests.swift", with: "traces/\(name).nvpt")
    var events = try MergedEvents(TraceReader(path: path))
    while let (record, id) = try events.next() { try body(record, id.source, id.stream) }
  }
}

@Suite("What expressions say of events")
struct EventVocabularyTests {
  /// Values of the named variables, as an expression gets them.
  private struct Names {
    var places: [String: (place: EventValue, kind: ValueKind)] = [:]

    init() throws {
      for definition in Vocabulary.events.definitions {
        let text = if case .flag = definition.kind { definition.name } else { "\(definition.name) == 0" }
        let variable = try Expression(text, .events).variables[0]
        places[definition.name] = (variable.place, variable.kind)
      }
    }
  }

  /// Words of `dump` that no expression names: the fields of the event say the same.
  private static let others: Set = [
    "completion-head", "submission-tail", "from-host", "to-host", "doorbells", "code", "data", "length", "fuse",
    "force-unit-access", "limited-retry", "deallocate", "ranges", "action", "queue", "entries", "contiguous",
    "completion-queue", "vector", "no-interrupts", "bytes", "offset", "retain-event", "sqid", "cid", "value", "save",
    "select", "type", "information", "operation",
  ]

  @Test("an expression finds the values that dump prints")
  func agrees() throws {
    let names = try Names()
    var meaning = EventMeaning()
    var found: Set<String> = []
    try forEachGoldenEvent { record, source, stream in
      let values = EventValues(record, source: source, stream: stream)
      func value(_ name: String) -> UInt64? { names.places[name].flatMap { values.value(of: $0.place) } }
      #expect(value("event") == UInt64(record.pointee.kind))
      #expect(value("time") == record.pointee.time)
      #expect(value("qid") == record.pointee.queue.map { UInt64($0) })
      meaning.describe(record)
      for (name, word) in meaning.words {
        guard let (place, kind) = names.places[name], !Self.others.contains(name) else {
          #expect(Self.others.contains(name), "\(name) has no name in expressions")
          continue
        }
        found.insert(name)
        let value = try #require(values.value(of: place), "\(name)")
        switch word {
        case .flag: #expect(value != 0, "\(name)")
        case .number(let number), .wide(let number): #expect(value == number, "\(name)")
        case .hexadecimal(let number):
          if case .choice(let choices) = kind { #expect(value & choices.numberMask == number, "\(name)") }
        case .name(let text):
          guard case .choice(let choices) = kind else {
            Issue.record("\(name) has no names")
            continue
          }
          #expect(choices.values.contains { $0.name == text && $0.value == value }, "\(name) \(text)")
        }
      }
    }
    for name in [
      "opcode", "status", "slba", "blocks", "register", "EN", "RDY", "sqid", "phase", "structure", "feature",
    ] {
      #expect(found.contains(name) || Self.others.contains(name), "\(name) is in no trace")
    }
  }

  @Test("a field has the value that its event contains")
  func fields() throws {
    let names = try Names()
    let own: Set = ["qid", "cid", "opcode", "status", "slba", "blocks", "time", "feature", "register"]
    try forEachGoldenEvent { record, source, stream in
      let values = EventValues(record, source: source, stream: stream)
      let fields = record.pointee.event?.description.fields ?? []
      for field in fields where !own.contains(field.name) {
        let place = try #require(names.places[field.name]).place
        #expect(values.value(of: place) == record.value(of: field), "\(field.name)")
      }
      let has = Set(fields.flatMap { [$0.name] + $0.bits.map(\.name.hyphenated) })
      for (name, variable) in names.places {
        guard case .field = variable.place, !has.contains(name) else { continue }
        #expect(values.value(of: variable.place) == nil, "\(name)")
      }
    }
  }

  @Test(
    "an expression selects the events that it says",
    arguments: [
      ("event == completion && status != 0", 1), ("event == completion && status == 0", 1),
      ("event == fetch && opcode == read && slba in 0..7", 1), ("register == CC && EN == 1", 1),
      ("source == host && event == doorbell && completion-head", 1), ("event == time && status == 0", 0),
      ("span > 1s", 0), ("event == segment && length >= 512B && !from-host", 1), ("time < 0", 0),
    ])
  func selects(text: String, least: Int) throws {
    let expression = try Expression(text, .events)
    var count = 0
    try forEachGoldenEvent { record, source, stream in
      let values = EventValues(record, source: source, stream: stream)
      if expression.holds({ values.value(of: $0) }) { count += 1 }
    }
    #expect(least == 0 ? count == 0 : count >= least, "\(count)")
  }

  @Test("no value is read beyond the tail of a record, whatever it claims to be")
  func hostile() throws {
    let names = try Names()
    let slots = UnsafeMutablePointer<Record>.allocate(capacity: 1)
    defer { slots.deallocate() }
    for kind in 0...UInt8.max {
      slots.initialize(to: Record(kind: .gap, flags: 0xff, qid: .max, cid: .max, a: .max, b: .max))
      slots.pointee.kind = kind
      let values = EventValues(slots, source: .kernel, stream: 0)
      for variable in names.places.values { _ = values.value(of: variable.place) }
      if kind == EventKind.fetch.rawValue { #expect(values.value(of: .opcode) == nil) }
    }
  }
}
