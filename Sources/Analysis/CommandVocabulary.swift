import Expressions
import NVMe

/// A value of a command that an expression can name.
public enum CommandValue: Hashable, Sendable {
  case qid, cid, nsid, opcode, status, failed, slba, lastBlock, blocks
  /// Nanoseconds since the trace began.
  case begin, end
  case bytes, total, unexplained, turn, queueFull, handling, hostSubmit
  case stage(Stage)
  case waiting(Stage)
}

extension Vocabulary where Place == CommandValue {
  /// What expressions say of commands.
  public static let commands = Vocabulary(facts + times)

  private static let facts: [Definition] = [
    .init("qid", .number, "Identifier of its submission queue.", .qid),
    .init("cid", .number, "Command identifier.", .cid),
    .init("nsid", .number, "Namespace identifier.", .nsid),
    .init(
      "opcode", .choice(.opcodes), "Opcode: a name such as read or identify; a number means admin and I/O commands.",
      .opcode),
    .init(
      "status", .choice(.statuses), "Status Code Type × 256 + Status Code of its completion, or their name.", .status),
    .init("failed", .flag, "Its completion reports an error.", .failed),
    .init(
      "slba", .number,
      "First logical block. With in: the command uses at least one block of the range, as with --lba.",
      .slba, last: .lastBlock),
    .init("blocks", .number, "Logical blocks that it reads, writes, compares, zeroes or verifies.", .blocks),
  ]

  private static let times: [Definition] =
    [
      .init("begin", .time, "When it began, since the trace began.", .begin),
      .init("end", .time, "When its last stage ended, since the trace began.", .end),
      .init("bytes", .bytes, "Data transferred from and to the host.", .bytes),
      .init("total", .time, "Latency: all stages and unexplained.", .total),
      .init("unexplained", .time, "Between stages: the engine's work for no command in particular.", .unexplained),
    ] + Stage.allCases.map { .init("stage.\($0.name)", .time, "This stage; 0 if it lacks it.", .stage($0)) }
    + Stage.allCases.map {
      .init("stage.\($0.name).waiting", .time, "The part in which nobody worked on the command.", .waiting($0))
    } + [
      .init("turn", .time, "The part of detect after the engine saw the doorbell.", .turn),
      .init("queue-full", .time, "The part of complete spent waiting for room in the completion queue.", .queueFull),
      .init(
        "handling", .time, "The part of reap after the host saw the entry; absent without a host stream.", .handling),
      .init(
        "host-submit", .time, "In the host's driver, before the doorbell; absent without a host stream.", .hostSubmit),
    ]
}

extension Choices {
  /// Opcodes as `value(of:isAdmin:)` has them. A number means both sets.
  public static let opcodes = Choices(
    [false, true].flatMap { isAdmin in
      (0...UInt8.max).compactMap { opcode in
        NVMeName.opcode(opcode, isAdmin: isAdmin).map { ($0, value(of: opcode, isAdmin: isAdmin)) }
      }
    }, numberMask: 0xff)

  /// The value of an opcode: admin and I/O commands have their own.
  @inline(__always)
  public static func value(of opcode: UInt8, isAdmin: Bool) -> UInt64 { UInt64(opcode) | (isAdmin ? 0x100 : 0) }

  /// Status Code Type and Status Code.
  public static let statuses = Choices(
    (0...0x7ff).compactMap { code in NVMeName.status(code).map { ($0, UInt64(code)) } }, numberMask: 0x7ff)
}

extension CommandFacts {
  /// Nil for values that only a finished command has.
  public func value(of place: CommandValue) -> UInt64? {
    switch place {
    case .qid: UInt64(qid)
    case .cid: UInt64(cid)
    case .nsid: request.nsid.map { UInt64($0) }
    case .opcode: opcode.map { Choices.value(of: $0, isAdmin: isAdmin) }
    case .status: status.map { UInt64($0.code) }
    case .failed: hasFailed ? 1 : 0
    case .slba: request.range?.lowerBound
    case .lastBlock: request.range?.upperBound
    case .blocks: request.range == nil ? nil : UInt64(request.blocks)
    default: nil
    }
  }
}

extension CommandTimes {
  /// Nil if the trace does not contain it.
  public func value(of place: CommandValue) -> UInt64? {
    switch place {
    case .begin: begin
    case .end: end
    case .bytes: bytesFromHost &+ bytesToHost
    case .total: total
    case .unexplained: unexplained
    case .turn: turn
    case .queueFull: queueFull
    case .handling: handling
    case .hostSubmit: hostSubmit
    case .stage(let stage): stages[stage]
    case .waiting(let stage): waiting[stage]
    case .qid, .cid, .nsid, .opcode, .status, .failed, .slba, .lastBlock, .blocks: facts.value(of: place)
    }
  }
}
