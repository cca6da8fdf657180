import NVMe
import Text

/// Why a text describes no fault, in one line that says what is allowed.
public struct FaultError: Error, CustomStringConvertible, Sendable {
  public let description: String
}

extension Fault {
  /// Longest text of a fault.
  private static let textMax = 1024

  /// Parse a SPEC: a fault's name with its value, then conditions, as in
  /// `error=unrecovered-read-error,opcode=read,lba=100..199,rate=0.01`.
  public init(_ text: String) throws(FaultError) {
    guard text.utf8.count <= Fault.textMax else {
      throw FaultError(description: "a fault of more than \(Fault.textMax) characters")
    }
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    let (name, value) = halves(parts[0])
    guard let kind = Kind.allCases.first(where: { $0.name == name }) else {
      if Stage.allCases.contains(where: { $0.name == name }) {
        throw FaultError(description: "\(text): a delay is delay=\(name):\(value ?? "2us")")
      }
      let names = Kind.allCases.map(\.name).joined(separator: ", ")
      throw FaultError(description: "\(text): \"\(name)\" is not a fault; use \(names)")
    }
    self.init(kind)
    do throws(Refusal) {
      try parse(value: value)
      for part in parts.dropFirst() { try parse(condition: part) }
      try check()
    } catch { throw FaultError(description: "\(text): \(error.reason)") }
  }

  private struct Refusal: Error {
    let reason: String
    init(_ reason: String) { self.reason = reason }
  }

  private static let timeMax: UInt64 = 3_600_000_000_000

  private mutating func parse(value: Substring?) throws(Refusal) {
    switch kind.value {
    case .none:
      if let value { throw Refusal("\(kind.name) has no value such as \"\(value)\"") }
    case .time(let isRequired):
      if value == nil, !isRequired { return }
      guard let ns = Fault.time(value ?? "") else {
        throw Refusal("\(kind.name) needs a time from 1ns to 1h or forever, as in \(kind.name)=20ms")
      }
      self.ns = ns
    case .stageAndTime:
      let (stageName, time) = halves(value ?? "", at: ":")
      guard let stage = Stage.allCases.first(where: { $0.name == stageName }) else {
        let names = Stage.allCases.map(\.name).joined(separator: ", ")
        throw Refusal("\"\(stageName)\" is not a stage of the engine; use delay=STAGE:TIME with \(names)")
      }
      guard let ns = Fault.time(time ?? ""), ns <= 1_000_000_000 else {
        throw Refusal("delay needs a time from 1ns to 1s, as in delay=\(stageName):2us")
      }
      (self.stage, self.ns) = (stage, ns)
    case .status:
      guard let status = value.flatMap({ Fault.status(String($0)) }), status != 0 else {
        throw Refusal(
          "error needs a status: a name such as unrecovered-read-error, as dump prints them, or a number up to 0x7ff")
      }
      self.status = status
    case .offset:
      guard let value else { return }
      guard let offset = UInt16(value), offset > 0 else {
        throw Refusal("\(kind.name)=N adds N to the right value: 1 to 65535")
      }
      self.offset = offset
    }
  }

  private mutating func parse(condition part: Substring) throws(Refusal) {
    let (key, value) = halves(part)
    let number = value.flatMap { UInt64($0) }
    switch (key, number) {
    case ("qid", let qid?) where qid <= 128: selection.qid = UInt16(qid)
    case ("nsid", let nsid?) where nsid > 0: selection.nsid = UInt32(clamping: nsid)
    case ("every", let every?) where every > 0: selection.every = every
    case ("after", let after?): selection.after = after
    case ("times", let times?) where times > 0: selection.times = times
    case ("once", nil) where value == nil: selection.times = 1
    case ("after-wrap", nil) where value == nil && kind.isOfCompletion: selection.afterWrap = true
    case ("coalesced", nil) where value == nil && kind.isOfInterrupt: selection.coalesced = true
    case ("opcode", _):
      guard let opcode = value.flatMap({ Fault.opcode(String($0)) }) else {
        throw Refusal("opcode needs a name such as read, or a number up to 0xff")
      }
      selection.opcode = opcode
    case ("lba", _):
      guard let lba = value.flatMap(Fault.blocks) else {
        throw Refusal("lba needs a block or a first and a last one, as in lba=100..199")
      }
      selection.lba = lba
    case ("rate", _):
      guard let rate = value.flatMap({ Double($0) }), rate > 0, rate <= 1 else {
        throw Refusal("rate must be more than 0 and at most 1, as in rate=0.01")
      }
      selection.rate = rate
    case ("spin", nil) where value == nil && kind == .delay: sleeps = false
    case ("sleep", nil) where value == nil && kind == .delay: sleeps = true
    case ("hole", nil) where value == nil && kind == .dropCompletion: leavesHole = true
    case ("dnr", nil) where value == nil && kind == .error: status |= Status.doNotRetry
    default: throw Refusal("\"\(part)\" is invalid; \(kind.name) takes \(kind.conditions(stage))")
    }
  }

  private func check() throws(Refusal) {
    let what = kind == .delay ? "delay=\(stage.name)" : kind.name
    guard !selection.namesCommand || kind.knowsCommand(stage) else {
      throw Refusal("\(what) happens before the command is known or after, so it takes no opcode, lba or nsid")
    }
    guard selection.qid == 0 else { return }
    guard kind.strikesAdmin(stage) else { throw Refusal("\(what) strikes I/O commands only: qid=1 to 128") }
    guard !kind.isOfBackend(stage) || selection.opcode ?? IOOpcode.flush.rawValue == IOOpcode.flush.rawValue else {
      throw Refusal("\(what),qid=0 strikes only the flush of a shutdown or a Set Features: opcode=flush or none")
    }
  }

  /// Nanoseconds, 1ns to 1h; `.max` for `forever`.
  private static func time(_ text: some StringProtocol) -> UInt64? {
    if text == "forever" { return .max }
    guard let ns = Quantity.nanoseconds(String(text)), (1...timeMax).contains(ns), text.last == "s" else { return nil }
    return ns
  }

  private static func blocks(_ text: Substring) -> ClosedRange<UInt64>? {
    if let block = UInt64(text) { return block...block }
    var rest = text
    let first = rest.prefix { $0 != "." }
    rest = rest.dropFirst(first.count)
    guard rest.hasPrefix(".."), let low = UInt64(first), let high = UInt64(rest.dropFirst(2)), low <= high else {
      return nil
    }
    return low...high
  }

  private static func opcode(_ text: String) -> UInt8? {
    if let value = NVMeName.opcode(text, isAdmin: false) ?? NVMeName.opcode(text, isAdmin: true) { return value }
    return number(text).flatMap { UInt8(exactly: $0) }
  }

  private static func status(_ text: String) -> UInt16? {
    if let value = NVMeName.status(named: text) { return value }
    return number(text).flatMap { $0 <= 0x7ff ? UInt16($0) : nil }
  }

  /// In the largest unit in which it is whole.
  private static func text(ns: UInt64) -> String {
    if ns == .max { return "forever" }
    for (unit, size) in [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000)] as [(String, UInt64)]
    where ns % size == 0 { return "\(ns / size)\(unit)" }
    return "\(ns)ns"
  }

  /// Decimal, or hexadecimal after `0x`.
  private static func number(_ text: String) -> UInt64? {
    text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
  }
}

extension Fault.Kind {
  /// What a SPEC of this kind may contain after its name.
  func conditions(_ stage: Fault.Stage) -> String {
    var all = ["qid=N (0 to 128)"]
    if knowsCommand(stage) { all += ["opcode=NAME", "lba=A..B", "nsid=N"] }
    all += ["every=N", "after=N", "rate=0.01", "times=N", "once"]
    if isOfCompletion { all.append("after-wrap") }
    if isOfInterrupt { all.append("coalesced") }
    switch self {
    case .delay: all += ["spin", "sleep"]
    case .dropCompletion: all.append("hole")
    case .error: all.append("dnr")
    default: break
    }
    return all.joined(separator: ", ")
  }
}

extension Fault: CustomStringConvertible {
  /// The SPEC of this fault.
  public var description: String {
    var parts = [kind.name]
    switch kind.value {
    case .none: break
    case .time: parts[0] += "=" + Fault.text(ns: ns)
    case .stageAndTime: parts[0] += "=\(stage.name):" + Fault.text(ns: ns)
    case .status: parts[0] += "=" + (NVMeName.status(status) ?? (status & 0x7ff).hex)
    case .offset: parts[0] += "=\(offset)"
    }
    if let qid = selection.qid { parts.append("qid=\(qid)") }
    if let opcode = selection.opcode {
      parts.append(
        "opcode=" + (NVMeName.opcode(opcode, isAdmin: selection.qid == 0 && !kind.isOfBackend(stage)) ?? opcode.hex))
    }
    if let nsid = selection.nsid { parts.append("nsid=\(nsid)") }
    if let lba = selection.lba { parts.append("lba=\(lba.lowerBound)..\(lba.upperBound)") }
    if selection.after > 0 { parts.append("after=\(selection.after)") }
    if selection.every > 1 { parts.append("every=\(selection.every)") }
    if selection.rate < 1 { parts.append("rate=\(selection.rate)") }
    if selection.times < .max { parts.append(selection.times == 1 ? "once" : "times=\(selection.times)") }
    if selection.afterWrap { parts.append("after-wrap") }
    if selection.coalesced { parts.append("coalesced") }
    if kind == .delay { parts.append(sleeps ? "sleep" : "spin") }
    if leavesHole { parts.append("hole") }
    if status & Status.doNotRetry != 0 { parts.append("dnr") }
    return parts.joined(separator: ",")
  }
}

/// The two sides of the first separator; without one there is no second.
private func halves(_ text: Substring, at separator: Character = "=") -> (Substring, Substring?) {
  guard let place = text.firstIndex(of: separator) else { return (text, nil) }
  return (text[..<place], text[text.index(after: place)...])
}
