import EventTable
import Events
import NVMe
import Text

/// What the values of an event mean, in the specification's names: words such as `opcode read` or `EN 1`.
///
/// The list is reused from event to event, so that `dump` allocates nothing for the millions that it prints.
public struct EventMeaning {
  /// A word's value.
  public enum Value: Equatable {
    case name(String)
    case number(UInt64)
    case hexadecimal(UInt64)
    /// A number of 64 bits, which JSON contains as a string.
    case wide(UInt64)
    /// The word says all.
    case flag
  }

  /// In the order in which they are shown. No two have the same name.
  public private(set) var words: [(name: String, value: Value)] = []

  public init() {}

  /// Replace the words by those of this event; there may be none.
  public mutating func describe(_ record: UnsafePointer<Record>) {
    words.removeAll(keepingCapacity: true)
    guard let kind = record.pointee.event else { return }
    switch kind {
    case .registerRead: describe(access: Event.RegisterRead(record.pointee))
    case .registerWrite: describe(access: Event.RegisterWrite(record.pointee))
    case .doorbell:
      let isHead = Event.Doorbell(record.pointee).flags.contains(.completionHead)
      add(isHead ? "completion-head" : "submission-tail", .flag)
    case .segment:
      let segment = Event.Segment(record.pointee)
      add(segment.flags.contains(.fromHost) ? "from-host" : "to-host", .flag)
      addFlags(kind, record.pointee, except: "fromHost")
    case .fetch:
      let fetch = Event.Fetch(record.pointee)
      addFlags(kind, record.pointee)
      if !fetch.flags.contains(.failed) { describe(entryOf: record, isAdmin: fetch.qid == 0) }
    case .entry: describe(entryOf: record, isAdmin: Event.Entry(record.pointee).qid == 0)
    case .completion:
      addFlags(kind, record.pointee)
      describe(Event.Completion(record.pointee))
    case .submit:
      let submit = Event.Submit(record.pointee)
      add(opcode: submit.opcode, isAdmin: submit.qid == 0)
    case .executeBegin:
      let begin = Event.ExecuteBegin(record.pointee)
      add(opcode: begin.opcode, isAdmin: begin.isAdmin)
    case .request:
      let request = Event.Request(record.pointee)
      add(opcode: request.opcode, isAdmin: request.qid == 0)
    case .executeEnd:
      add(status: Status(rawValue: UInt16(truncatingIfNeeded: Event.ExecuteEnd(record.pointee).status)))
      addFlags(kind, record.pointee)
    case .fault:
      addFlags(kind, record.pointee)
      describe(Event.Fault(record.pointee))
    case .status: add(fieldsOf: .csts, Event.Status(record.pointee).csts)
    case .asynchronousEvent: describe(asynchronousEvent: Event.AsynchronousEvent(record.pointee).result)
    case .block:
      describe(blockOperation: Event.Block(record.pointee).flags.rawValue >> 2)
      addFlags(kind, record.pointee)
    default: addFlags(kind, record.pointee)
    }
  }

  mutating func add(_ name: String, _ value: Value) { words.append((name, value)) }

  mutating func add(_ name: String, _ number: some BinaryInteger) { add(name, .number(UInt64(number))) }

  /// A value with its name if it has one.
  mutating func add(_ name: String, _ text: String?, else number: UInt64) {
    add(name, text.map { .name($0) } ?? .hexadecimal(number))
  }

  mutating func add(opcode: UInt8, isAdmin: Bool) {
    add("opcode", NVMeName.opcode(opcode, isAdmin: isAdmin), else: UInt64(opcode))
  }

  // MARK: Choices and flags of the event table

  private mutating func addFlags(_ kind: EventKind, _ record: Record, except other: String = "") {
    for field in EventMeaning.named[Int(kind.rawValue)] {
      guard let value = record.value(of: field.field) else { continue }
      for choice in field.choices where choice.value == value { add(field.field.name, .name(choice.name)) }
      for bit in field.bits where bit.value & value != 0 && bit.source != other { add(bit.name, .flag) }
    }
  }

  private struct NamedField: Sendable {
    let field: EventField
    let choices: [(value: UInt64, name: String)]
    let bits: [(value: UInt64, name: String, source: String)]
  }

  /// By kind. That bytes follow is of no interest.
  private static let named: [[NamedField]] = {
    var table = [[NamedField]](repeating: [], count: 256)
    for event in eventTable {
      table[Int(event.kind)] = event.fields.filter { !$0.bits.isEmpty || !$0.values.isEmpty }.map { field in
        NamedField(
          field: field,
          choices: field.values.filter { $0.name != "unknown" }.map { (UInt64($0.value), $0.name.hyphenated) },
          bits: field.bits.filter { $0.value != Record.carriesBytesFlag }.map {
            (UInt64($0.value), $0.name.hyphenated, $0.name)
          })
      }
    }
    return table
  }()

  // MARK: Registers

  private mutating func describe(access: Event.RegisterRead) {
    describe(register: access.offset, UInt64(access.width), access.value)
  }

  private mutating func describe(access: Event.RegisterWrite) {
    describe(register: access.offset, UInt64(access.width), access.value)
  }

  private mutating func describe(register offset: UInt64, _ width: UInt64, _ value: UInt64) {
    guard let register = RegisterLayout.at(offset) else {
      if offset >= Register.doorbells { add("doorbells", .flag) }
      return
    }
    add("register", .name(register.name))
    // An access to a part of a register, or to two of them, shows its value only.
    if offset == register.offset, width == register.width { add(fieldsOf: register, value) }
  }

  private mutating func add(fieldsOf register: RegisterLayout, _ value: UInt64) {
    for field in register.fields { add(field.name, field.value(in: value)) }
  }

  // MARK: Completions

  private mutating func describe(_ completion: Event.Completion) {
    add("sqid", completion.sqid)
    add("sqhd", completion.dw2 & 0xffff)
    add("phase", completion.phase ? 1 : 0)
    add(status: Status(rawValue: completion.status))
  }

  mutating func add(status: Status) {
    add("status", status.name, else: UInt64(status.code))
    if status.code != 0 { add("code", .hexadecimal(UInt64(status.code))) }
    if status.rawValue & Status.more != 0 { add("more", .flag) }
    if status.rawValue & Status.doNotRetry != 0 { add("do-not-retry", .flag) }
  }

  /// What the detail of a fault means depends on its kind.
  private mutating func describe(_ fault: Event.Fault) {
    guard fault.ended == 0 else { return add("ended", .flag) }
    switch fault.fault {
    case .error: add(status: Status(rawValue: UInt16(truncatingIfNeeded: fault.detail)))
    case .dropCompletion, .duplicateCompletion, .wrongPhase: add("entry", fault.detail)
    case .wrongSqhd: add("sqhd", fault.detail)
    case .wrongCid: add("instead", fault.detail)
    case .dropInterrupt, .duplicateInterrupt: add("vector", fault.detail)
    case .prpOffByOne: add("list", .hexadecimal(fault.detail))
    case .shortTransfer, .failTransfer: add("bytes", fault.detail)
    case .controllerFatal: break
    default: add("time", .name(fault.detail == .max ? "forever" : Quantity.time(fault.detail)))
    }
  }

  /// The name of a kind of fault: `drop-completion`.
  public static func fault(_ kind: UInt8) -> String {
    named[Int(EventKind.fault.rawValue)].first?.choices.first { $0.value == UInt64(kind) }?.name ?? "unknown"
  }

  private mutating func describe(asynchronousEvent result: UInt64) {
    add("type", result & 7)
    add("information", .hexadecimal(result >> 8 & 0xff))
    let page = UInt8(truncatingIfNeeded: result >> 16)
    add("log-page", NVMeName.logPage(page), else: UInt64(page))
  }

  /// As the kernel numbers them (REQ_OP_READ and so on).
  private mutating func describe(blockOperation operation: UInt8) {
    let names = ["read", "write", "flush", "discard"]
    if Int(operation) < names.count { add("operation", .name(names[Int(operation)])) }
  }
}

extension Event.ExecuteBegin {
  /// Whether its opcode is one of admin commands. For a shutdown or a Set Features the engine flushes all namespaces,
  /// with the identifier of the admin queue.
  public var isAdmin: Bool { qid == 0 && nsid != .max }
}
