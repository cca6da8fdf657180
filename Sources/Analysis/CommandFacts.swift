import Events
import NVMe

/// What the trace says of a command besides its times.
public struct CommandFacts: Equatable, Sendable {
  public let qid: UInt16
  public let cid: UInt16
  /// Nil if no event contains it.
  public let opcode: UInt8?
  public let request: CommandRequest
  /// Status field of its completion; nil if it did not complete.
  public let status: Status?
  public let events: CommandEvents

  public var isAdmin: Bool { qid == 0 }
  /// Its completion reports an error.
  public var hasFailed: Bool { status.map { !$0.isSuccess } ?? false }
}

/// What a command asks for, as far as its events contain it.
public struct CommandRequest: BitwiseCopyable, Equatable, Sendable {
  public var nsid: UInt32?
  /// First logical block and number of blocks, of commands with a range of blocks.
  public var slba: UInt64?
  public var blocks: UInt32 = 0

  init() {}

  /// From a submission queue entry.
  init(_ sqe: SubmissionEntry, isAdmin: Bool) {
    nsid = sqe.nsid
    guard !isAdmin, let opcode = IOOpcode(rawValue: sqe.opcode), opcode.hasStartingBlock, opcode != .copy else {
      return
    }
    (slba, blocks) = (sqe.slba, sqe.blocks)
  }

  /// From the target core, which describes a command of any transport.
  init(_ request: Event.Request) {
    nsid = request.nsid
    if request.blocks > 0 { (slba, blocks) = (request.slba, request.blocks) }
  }

  /// The range of its blocks; nil if it has none.
  public var range: ClosedRange<UInt64>? {
    guard let slba, blocks > 0 else { return nil }
    let (end, overflow) = slba.addingReportingOverflow(UInt64(blocks - 1))
    return slba...(overflow ? .max : end)
  }
}

/// The numbers of a command's events, counted in the order of the trace from 1; 0 where there is none.
///
/// Events from `first` to `last` that name the command are its own, unless a later command of this name has begun. The
/// others announce or finish several commands.
public struct CommandEvents: BitwiseCopyable, Equatable, Sendable {
  public var first: UInt64 = 0
  public var last: UInt64 = 0
  /// The host's doorbell that announced it.
  public var rung: UInt64 = 0
  /// The engine's sight of that doorbell.
  public var seen: UInt64 = 0
  public var interrupt: UInt64 = 0
}
