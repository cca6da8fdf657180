import NVMe
import Text

/// One command as the kernel's nvmet-pci-epf handled it, according to its events.
struct DriverCommand {
  let qid: UInt16
  let cid: UInt16
  /// Fetch time, nanoseconds since the trace began.
  let time: UInt64
  /// Entry of the submission queue.
  let slot: UInt32
  let sqe: SubmissionEntry
  /// How many probe runs had been skipped since the controller was enabled, at its fetch.
  let doubts: UInt32
  var fetchFailed = false
  var lists: [DriverList] = []
  var segments: [DriverSegment] = []
  /// The target core's result, and the length of data that it expected.
  var executed: (status: Status, bytes: UInt32)?
  var completion: DriverCompletion?
  /// It has more than one completion.
  var extraCompletions = 0
  /// Its queue, the controller or the link went down before it completed.
  var wasInterrupted = false
  /// The driver abandoned it.
  var wasDropped = false
  /// One of its events may be lost.
  var isDoubtful = false
  /// It has more lists or segments than the recording keeps.
  var isCut = false
  /// A worker started it, and finished.
  var work: (began: Bool, ended: Bool) = (false, false)
  /// At its execution: commands of its queue fetched by then, and how many of them were not executed.
  var queueThen: (fetched: UInt64, open: UInt64)?

  static let listsMax = 256
  static let segmentsMax = 4096
}

/// A PRP list or SGL segment that the driver read.
struct DriverList {
  let address: UInt64
  let bytes: [UInt8]
  /// All its bytes were read.
  let isWhole: Bool
}

/// A contiguous piece of transferred data.
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
  /// Entries posted earlier since its queue was created; nil if one may be lost.
  let ordinal: UInt64?
  /// The entry after the newest one fetched from the command's queue.
  let head: UInt32
  /// How much older than that the head in the entry may be.
  let lagMax: UInt64
}

extension DriverCommand {
  /// By design it waits in the controller for an event.
  var isEventRequest: Bool { qid == 0 && sqe.opcode == AdminOpcode.asynchronousEventRequest.rawValue }

  /// Its opcode if it is an admin command.
  var adminOpcode: AdminOpcode? { qid == 0 ? AdminOpcode(rawValue: sqe.opcode) : nil }

  /// The queue that it creates or deletes.
  var queueInQuestion: UInt16 { UInt16(truncatingIfNeeded: sqe.cdw10) }

  /// Its result comes from the controller and is not known in advance.
  var hasOwnResult: Bool { adminOpcode == .getFeatures || adminOpcode == .abort || isEventRequest }

  /// The kernel's target returns the value of Set Features although nothing requires it; for the Keep Alive Timer in
  /// seconds.
  func echoesFeature(_ dw0: UInt32) -> Bool {
    guard adminOpcode == .setFeatures else { return false }
    let isKeepAlive = sqe.cdw10 & 0xff == 0x0f
    return dw0 == sqe.cdw11 || (isKeepAlive && dw0 == sqe.cdw11 / 1000 + (sqe.cdw11 % 1000 == 0 ? 0 : 1))
  }

  /// An SGL segment that is not a whole number of descriptors, or has more of them than any transfer needs.
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

  /// Bounded as in the engine.
  private static let descriptorsMax = 1024

  var text: String {
    let name = qid == 0 ? AdminOpcode(rawValue: sqe.opcode)?.name : IOOpcode(rawValue: sqe.opcode)?.name
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

extension DriverCommand {
  /// Create command: the queue is physically contiguous (PC).
  var isContiguous: Bool { sqe.cdw11 & 1 != 0 }
}
