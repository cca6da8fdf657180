import Endpoint
import EventWords
import Events
import NVMe
import Text

/// What the events before a divergence tell of it. It reads the chunks backwards, from that of the divergence on.
struct DivergenceHistory {
  private let divergence: Divergence
  /// The command of the divergence, and its events so far, the latest first.
  private let command: Name?
  private var commandEvents: [Past] = []
  private var hasFetch = false
  /// The events of its queues, the latest first.
  private var before: [Divergence.Before] = []
  private var agreed: Divergence.Before?
  /// Recorded events from the divergent one on that come before the engine's; nil if that does not follow soon.
  private var leftOut: [Record]?

  private static let beforeMax = 12
  private static let commandEventsMax = 4096
  private static let ahead = 64

  private struct Name: Equatable {
    let qid: UInt16
    let cid: UInt16

    /// Nil if the event belongs to no command.
    init?(_ record: Record) {
      guard let cid = record.command, let qid = record.is(.completion) ? Event.Completion(record).sqid : record.queue
      else { return nil }
      (self.qid, self.cid) = (qid, cid)
    }
  }

  /// An event of the command, with its entry or the bytes that it read.
  private struct Past {
    let record: Record
    let entry: SubmissionEntry?
    let bytes: [UInt8]
  }

  init(_ divergence: Divergence) {
    self.divergence = divergence
    command = [divergence.recordedEvent, divergence.engineEvent].lazy.compactMap { $0.flatMap(Name.init) }.first
  }

  /// No earlier chunk has anything to add.
  var isComplete: Bool {
    before.count == DivergenceHistory.beforeMax && (command == nil || hasFetch)
      && (divergence.kind != .state || agreed != nil)
  }

  /// The next earlier chunk.
  mutating func read(_ slots: UnsafeBufferPointer<Record>, first: UInt64) {
    var records: [UnsafePointer<Record>] = []
    var slot = 0
    while slot < slots.count {
      records.append(slots.baseAddress! + slot)
      slot += 1 + Int(slots[slot].tail)
    }
    if divergence.event >= first, divergence.event - first < UInt64(records.count) {
      lookAhead(records[Int(divergence.event - first)...])
    }
    let end = min(records.count, Int(clamping: divergence.event - min(first, divergence.event)))
    for index in (0..<end).reversed() {
      note(records[index], number: first &+ UInt64(index))
      if isComplete { return }
    }
  }

  private mutating func note(_ record: UnsafePointer<Record>, number: UInt64) {
    func past() -> Divergence.Before {
      Divergence.Before(event: number, timeNs: record.pointee.time, text: EventSentence.text(record))
    }
    if agreed == nil, divergence.kind == .state, record.pointee.isOfState { agreed = past() }
    if before.count < DivergenceHistory.beforeMax, concerns(record.pointee), agreed == nil { before.append(past()) }
    guard let command, !hasFetch, Name(record.pointee) == command,
      commandEvents.count < DivergenceHistory.commandEventsMax
    else { return }
    hasFetch = record.pointee.is(.fetch)
    let bytes = record.pointee.is(.read) ? record.bytes.map(Array.init) ?? [] : []
    let entry = hasFetch ? record.fixedTail(as: SubmissionEntry.self) : nil
    commandEvents.append(Past(record: record.pointee, entry: entry, bytes: bytes))
  }

  private func concerns(_ record: Record) -> Bool {
    guard record.event?.involvesEngine == true else { return false }
    guard !divergence.queues.isEmpty, !record.is(.reset) else { return true }
    if record.is(.completion), divergence.queues.contains(Event.Completion(record).sqid) { return true }
    return record.queue.map(divergence.queues.contains) == true
  }

  /// Whether the engine's event follows in the recording: then it leaves out those before it.
  private mutating func lookAhead(_ records: ArraySlice<UnsafePointer<Record>>) {
    guard divergence.kind == .event || divergence.kind == .fields, let came = divergence.engineEvent else { return }
    var passed: [Record] = []
    for record in records.prefix(DivergenceHistory.ahead) {
      if record.pointee.kind == came.kind, Divergence.fields(record.pointee, came).isEmpty {
        leftOut = passed
        return
      }
      // Behind an input it would be another event that looks alike.
      guard record.pointee.isOutput else { return }
      passed.append(record.pointee)
    }
  }

  // MARK: Notes

  /// Add to the report what was found.
  func tell(_ divergence: inout Divergence) {
    divergence.before = before.reversed()
    if divergence.recordedEvent == nil, let last = before.first { divergence.timeNs = last.timeNs }
    divergence.agreed = agreed
    switch divergence.kind {
    case .event:
      if let leftOut {
        divergence.notes = missing(leftOut, from: "the engine")
      } else if let engine = divergence.engineEvent {
        divergence.notes = missing([engine], from: "the recording")
      }
    case .rest:
      guard let recorded = divergence.recordedEvent else { break }
      divergence.notes =
        recorded.isOutput
        ? missing([recorded], from: "the engine") : ["the engine does not take the recorded input: \(name(recorded))"]
    case .end:
      if let engine = divergence.engineEvent { divergence.notes = missing([engine], from: "the recording") }
    case .fields:
      if let leftOut {
        divergence.notes = missing(leftOut, from: "the engine")
        break
      }
      guard let recorded = divergence.recordedEvent, recorded.is(.segment), let engine = divergence.engineEvent else {
        break
      }
      let addresses = [recorded, engine].map { Event.Segment($0).address }
      let origins = addresses.map(origin)
      if let (old, new) = origins[0].flatMap({ old in origins[1].map { (old, $0) } }), old.order > new.order,
        !commandEvents.contains(where: { $0.record.is(.segment) && Event.Segment($0.record).address == addresses[1] })
      {
        divergence.notes = missing([engine], from: "the recording")
      } else {
        divergence.notes.append("this is \(name(recorded))")
      }
      for (side, (address, origin)) in zip(["recorded", "engine"], zip(addresses, origins)) {
        if let origin { divergence.notes.append("\(side) address \(address.hex) is \(origin.text)") }
      }
    default: break
    }
  }

  private func missing(_ records: [Record], from side: String) -> [String] {
    let shown = records.prefix(4)
    var notes = shown.enumerated().map { "\(name($1, after: $0)) is missing from \(side)" }
    if records.count > shown.count { notes.append("and \(records.count - shown.count) more events") }
    return notes
  }

  /// - Parameter after: segments of the same command that are missing before it.
  private func name(_ record: Record, after: Int = 0) -> String {
    let kind = record.event?.description.name ?? "event"
    switch record.event {
    case .segment:
      let number = segments + after + 1
      if let count = segmentCount, number > count { return "a segment after all \(count)" + owner(record) }
      return "segment \(number)" + (segmentCount.map { " of \($0)" } ?? "") + owner(record)
    case .interrupt:
      let interrupt = Event.Interrupt(record)
      return "the interrupt for CQ \(interrupt.cqid) (vector \(interrupt.vector), "
        + "\(Quantity.count(interrupt.entries, "entry", "entries")))"
    default: return "the \(kind)" + owner(record)
    }
  }

  private func owner(_ record: Record) -> String {
    if let command = Name(record) { return " of command \(command.qid)/\(command.cid)" }
    return record.queue.map { " of queue \($0)" } ?? ""
  }

  /// Segments of the command that precede the divergence.
  private var segments: Int { commandEvents.count { $0.record.is(.segment) } }

  private var segmentCount: UInt32? {
    commandEvents.first { $0.record.is(.map) }.map { Event.Map($0.record).segments }
  }

  /// Where an address of the command comes from: its data pointer or its lists; and where that is in their order.
  private func origin(of address: UInt64) -> (text: String, order: Int)? {
    let entry = commandEvents.lazy.compactMap(\.entry).first
    let hasSGL = entry.map { $0.psdt != 0 } ?? false
    if let entry {
      if hasSGL, entry.prp1 == address { return ("SGL1", 0) }
      if !hasSGL, entry.prp1 == address { return ("PRP1", 0) }
      if !hasSGL, entry.prp2 == address { return ("PRP2", 1) }
    }
    let size = hasSGL ? 16 : 8
    var order = 1
    for list in commandEvents.reversed() where list.record.is(.read) {
      let read = Event.Read(list.record)
      for place in 0..<list.bytes.count / size {
        let value = list.bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: place * size, as: UInt64.self) }
        guard UInt64(littleEndian: value) == address else { continue }
        let name = hasSGL ? "SGL descriptor" : "list entry"
        return ("\(name) \(place) at \((read.address &+ UInt64(place * size)).hex)", order + place)
      }
      order += list.bytes.count / size
    }
    return nil
  }
}

extension Record {
  /// Both states are compared here.
  fileprivate var isOfState: Bool { self.is(.checkpoint) || self.is(.stateHash) && Event.StateHash(self).length != 0 }

  /// The engine causes it, and the recording tells nothing new by it.
  fileprivate var isOutput: Bool {
    switch event {
    case .segment, .payload, .completion, .interrupt, .completionQueueFull, .map, .write, .executeBegin, .registerRead:
      true
    case .executeEnd: !Event.ExecuteEnd(self).flags.contains(.later)
    default: false
    }
  }
}
