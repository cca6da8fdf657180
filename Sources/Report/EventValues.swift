import Analysis
import EventWords
import Events
import Expressions
import NVMe

/// The values of one event that expressions ask for, read from its record. Nothing is allocated.
public struct EventValues {
  private let record: UnsafePointer<Record>
  private let source: Source
  private let stream: UInt16

  public init(_ record: UnsafePointer<Record>, source: Source, stream: UInt16) {
    (self.record, self.source, self.stream) = (record, source, stream)
  }

  /// Nil if the event has no such value.
  public func value(of place: EventValue) -> UInt64? {
    switch place {
    case .time: record.pointee.time
    case .event: UInt64(record.pointee.kind)
    case .source: UInt64(source.rawValue)
    case .stream: UInt64(stream)
    case .qid: record.pointee.queue.map { UInt64($0) }
    case .cid: record.pointee.command.map { UInt64($0) }
    case .opcode: opcode
    case .status: status.map { UInt64($0.code) }
    case .more: status.map { UInt64($0.rawValue & Status.more) }
    case .doNotRetry: status.map { UInt64($0.rawValue & Status.doNotRetry) }
    case .sqid: completion.map { UInt64($0.sqid) }
    case .sqhd: completion.map { UInt64($0.dw2 & 0xffff) }
    case .phase: completion.map { $0.phase ? 1 : 0 }
    case .slba: blocks?.first
    case .lastBlock: blocks?.last
    case .blocks: blocks?.count
    case .feature: adminDword10 { $0 == .setFeatures || $0 == .getFeatures }
    case .logPage: adminDword10 { $0 == .getLogPage }
    case .structure: adminDword10 { $0 == .identify }
    case .register: access.flatMap { RegisterLayout.at($0.offset)?.offset }
    case .registerField(let index): access.flatMap { RegisterFieldPlaces.all[index].value($0) }
    case .field(let index): FieldPlaces.all[index].value(in: record)
    }
  }

  // MARK: Commands

  private var opcode: UInt64? {
    switch record.pointee.event {
    case .submit: value(Event.Submit(record.pointee).opcode)
    case .executeBegin:
      Choices.value(
        of: Event.ExecuteBegin(record.pointee).opcode, isAdmin: Event.ExecuteBegin(record.pointee).isAdmin)
    case .request: value(Event.Request(record.pointee).opcode)
    default: entry.map { value($0.opcode) }
    }
  }

  private func value(_ opcode: UInt8) -> UInt64 { Choices.value(of: opcode, isAdmin: record.pointee.qid == 0) }

  /// The submission queue entry that it carries.
  private var entry: SubmissionEntry? {
    switch record.pointee.event {
    case .fetch:
      Event.Fetch(record.pointee).flags.contains(.failed) ? nil : record.fixedTail(as: SubmissionEntry.self)
    case .entry: record.fixedTail(as: SubmissionEntry.self)
    default: nil
    }
  }

  /// The lowest byte of Command Dword 10 of such an admin command.
  private func adminDword10(_ isMeant: (AdminOpcode) -> Bool) -> UInt64? {
    guard record.pointee.qid == 0, let entry, let opcode = AdminOpcode(rawValue: entry.opcode), isMeant(opcode) else {
      return nil
    }
    return UInt64(entry.cdw10 & 0xff)
  }

  private var blocks: (first: UInt64, last: UInt64, count: UInt64?)? {
    guard record.pointee.qid != 0 else { return nil }
    switch record.pointee.event {
    case .executeBegin:
      let begin = Event.ExecuteBegin(record.pointee)
      return range(begin.slba, begin.blocks)
    case .request:
      let request = Event.Request(record.pointee)
      return range(request.slba, request.blocks)
    case .submit:
      // Our own host does not record the blocks that it requests.
      guard source == .kernel else { return nil }
      let slba = Event.Submit(record.pointee).slba
      return (slba, slba, nil)
    default:
      guard let entry, let opcode = IOOpcode(rawValue: entry.opcode), opcode.hasStartingBlock else { return nil }
      return opcode == .copy ? (entry.slba, entry.slba, nil) : range(entry.slba, entry.blocks)
    }
  }

  private func range(_ first: UInt64, _ count: UInt32) -> (first: UInt64, last: UInt64, count: UInt64?)? {
    guard count > 0 else { return nil }
    let (last, isBeyond) = first.addingReportingOverflow(UInt64(count - 1))
    return (first, isBeyond ? .max : last, UInt64(count))
  }

  // MARK: Completions and registers

  private var completion: Event.Completion? {
    record.pointee.is(.completion) ? Event.Completion(record.pointee) : nil
  }

  private var status: Status? {
    let field: UInt32? =
      switch record.pointee.event {
      case .executeEnd: Event.ExecuteEnd(record.pointee).status
      case .queue: Event.Queue(record.pointee).status
      default: completion.map { UInt32($0.status) }
      }
    return field.map { Status(rawValue: UInt16(truncatingIfNeeded: $0)) }
  }

  /// An access to a register, read or written; a change of CSTS counts.
  private var access: Event.RegisterWrite? {
    switch record.pointee.event {
    case .registerWrite: return Event.RegisterWrite(record.pointee)
    case .registerRead:
      let read = Event.RegisterRead(record.pointee)
      return Event.RegisterWrite(width: read.width, offset: read.offset, value: read.value)
    case .status: return Event.RegisterWrite(width: 4, offset: Register.csts, value: Event.Status(record.pointee).csts)
    default: return nil
    }
  }
}
