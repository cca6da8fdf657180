import NVMe
import Text

/// One command as the kernel's nvmet-pci-epf dealt with it, by its events.
struct DriverCommand {
  let qid: UInt16
  let cid: UInt16
  /// Nanoseconds since the trace began: fetched.
  let time: UInt64
  /// Entry of the submission queue.
  let slot: UInt32
  let sqe: SubmissionEntry
  /// Times since the controller was enabled that a probe was not run, when it was fetched.
  let doubts: UInt32
  var fetchFailed = false
  var lists: [DriverList] = []
  var segments: [DriverSegment] = []
  /// What the target core answered, and the bytes that it expected to be moved.
  var executed: (status: Status, bytes: UInt32)?
  var completion: DriverCompletion?
  /// More completions than one.
  var extraCompletions = 0
  /// Its queue or the controller went before it was completed, or the link.
  var wasInterrupted = false
  /// The driver gave it up.
  var wasDropped = false
  /// An event of it may be missing.
  var isDoubtful = false
  /// It has more lists or segments than are kept.
  var isCut = false
  /// A worker took it, and has come back.
  var work: (began: Bool, ended: Bool) = (false, false)
  /// When it was executed: commands of its queue fetched by then, and those of them not executed.
  var queueThen: (fetched: UInt64, open: UInt64)?

  static let listsMax = 256
  static let segmentsMax = 4096
}

/// A PRP list or SGL segment that the driver read.
struct DriverList {
  let address: UInt64
  let bytes: [UInt8]
  /// Every byte that was read is there.
  let isWhole: Bool
}

/// A contiguous piece of data that was moved.
struct DriverSegment: Equatable {
  var fromHost: Bool
  var address: UInt64
  var length: UInt64
  var failed = false

  func contains(_ address: UInt64) -> Bool { address >= self.address && address - self.address < length }
}

/// A completion queue entry that the driver posted.
struct DriverCompletion {
  let cqid: UInt16
  let entry: CompletionEntry
  /// Nanoseconds since the trace began.
  let time: UInt64
  /// Entries posted before it since its queue was created; nil where one may be missing.
  let ordinal: UInt64?
  /// The entry behind the newest that was fetched from the command's queue.
  let head: UInt32
  /// By how many the head that the entry reports may be older than that.
  let lagMax: UInt64
}

extension DriverCommand {
  /// It waits in the controller for something to happen, by design.
  var isEventRequest: Bool { qid == 0 && sqe.opcode == AdminOpcode.asynchronousEventRequest.rawValue }

  /// What it asks for if it is an admin command.
  var adminOpcode: AdminOpcode? { qid == 0 ? AdminOpcode(rawValue: sqe.opcode) : nil }

  /// The queue that it creates or deletes.
  var queueInQuestion: UInt16 { UInt16(truncatingIfNeeded: sqe.cdw10) }

  /// Its result is the controller's own, which the recording does not know beforehand.
  var hasOwnResult: Bool { adminOpcode == .getFeatures || adminOpcode == .abort || isEventRequest }

  /// The kernel's target answers Set Features with the value, which nobody asked for; of the Keep Alive Timer in seconds.
  func echoesFeature(_ dw0: UInt32) -> Bool {
    guard adminOpcode == .setFeatures else { return false }
    let isKeepAlive = sqe.cdw10 & 0xff == 0x0f
    return dw0 == sqe.cdw11 || (isKeepAlive && dw0 == sqe.cdw11 / 1000 + (sqe.cdw11 % 1000 == 0 ? 0 : 1))
  }

  /// An SGL segment that is no whole number of descriptors, or of more than any transfer needs.
  var hasSGLSegmentOfBadLength: Bool {
    guard sqe.psdt != 0 else { return false }
    var left = UInt64(DriverCommand.descriptorsMax)
    func isBad(_ descriptor: SGLDescriptor) -> Bool {
      guard descriptor.kind == .segment || descriptor.kind == .lastSegment else { return false }
      let count = UInt64(descriptor.length) / UInt64(SGLDescriptor.size)
      guard descriptor.length > 0, descriptor.length % UInt32(SGLDescriptor.size) == 0, count <= left else {
        return true
      }
      left -= count
      return false
    }
    return isBad(sqe.sgl1) || lists.contains { $0.descriptors.contains(where: isBad) }
  }

  /// As the engine bounds them.
  private static let descriptorsMax = 1024

  var text: String {
    let name =
      qid == 0
      ? AdminOpcode(rawValue: sqe.opcode).map { "\($0)" } : IOOpcode(rawValue: sqe.opcode).map(\.name)
    var text = "queue \(qid) command \(cid.hex) \(name ?? "opcode \(sqe.opcode.hex)")"
    if qid != 0 { text += " slba \(sqe.slba) blocks \(sqe.cdw12 & 0xffff + 1)" }
    return text
  }
}

extension DriverList {
  fileprivate var descriptors: [SGLDescriptor] {
    bytes.withUnsafeBytes { bytes in
      (0..<bytes.count / SGLDescriptor.size).map {
        bytes.loadUnaligned(fromByteOffset: $0 * SGLDescriptor.size, as: SGLDescriptor.self)
      }
    }
  }
}
