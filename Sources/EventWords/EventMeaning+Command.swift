import Events
import NVMe

extension EventMeaning {
  /// A submission queue entry: its opcode and what the dwords mean to it.
  mutating func describe(entryOf record: UnsafePointer<Record>, isAdmin: Bool) {
    guard let sqe = record.fixedTail(as: SubmissionEntry.self) else { return }
    add(opcode: sqe.opcode, isAdmin: isAdmin)
    if sqe.nsid != 0 { add("nsid", sqe.nsid) }
    if isAdmin {
      if let opcode = AdminOpcode(rawValue: sqe.opcode) { describe(sqe, opcode) }
    } else if let opcode = IOOpcode(rawValue: sqe.opcode) {
      describe(sqe, opcode)
    }
    if sqe.fuse != 0 { add("fuse", .name(sqe.fuse == 1 ? "first" : sqe.fuse == 2 ? "second" : "reserved")) }
    describe(dataPointerOf: sqe)
  }

  /// NVM Command Set 1.1, 3.3; Base 2.1, 7.
  private mutating func describe(_ sqe: SubmissionEntry, _ opcode: IOOpcode) {
    switch opcode {
    case .read, .write, .compare, .writeZeroes, .verify:
      add("slba", .wide(sqe.slba))
      add("blocks", sqe.blocks)
      if sqe.cdw12 >> 30 & 1 != 0 { add("force-unit-access", .flag) }
      if sqe.cdw12 >> 31 != 0 { add("limited-retry", .flag) }
      if opcode == .writeZeroes, sqe.cdw12 >> 25 & 1 != 0 { add("deallocate", .flag) }
    case .copy:
      add("slba", .wide(sqe.slba))
      add("ranges", sqe.cdw12 & 0xff + 1)
    case .datasetManagement:
      add("ranges", sqe.cdw10 & 0xff + 1)
      if sqe.cdw11 & 4 != 0 { add("deallocate", .flag) }
    case .reservationRegister, .reservationAcquire, .reservationRelease: add("action", sqe.cdw10 & 7)
    case .flush, .reservationReport: break
    }
  }

  /// Base 2.1, 5.
  private mutating func describe(_ sqe: SubmissionEntry, _ opcode: AdminOpcode) {
    switch opcode {
    case .deleteIOSubmissionQueue, .deleteIOCompletionQueue: add("queue", sqe.cdw10 & 0xffff)
    case .createIOSubmissionQueue, .createIOCompletionQueue:
      add("queue", sqe.cdw10 & 0xffff)
      add("entries", sqe.cdw10 >> 16 + 1)
      if sqe.cdw11 & 1 != 0 { add("contiguous", .flag) }
      if opcode == .createIOSubmissionQueue {
        add("completion-queue", sqe.cdw11 >> 16)
      } else if sqe.cdw11 & 2 != 0 {
        add("vector", sqe.cdw11 >> 16)
      } else {
        add("no-interrupts", .flag)
      }
    case .getLogPage:
      let page = UInt8(truncatingIfNeeded: sqe.cdw10)
      add("log-page", NVMeName.logPage(page), else: UInt64(page))
      let dwords = UInt64(sqe.cdw10 >> 16) | UInt64(sqe.cdw11 & 0xffff) << 16
      add("bytes", (dwords + 1) * 4)
      let offset = UInt64(sqe.cdw12) | UInt64(sqe.cdw13) << 32
      if offset != 0 { add("offset", .wide(offset)) }
      if sqe.cdw10 & 0x8000 != 0 { add("retain-event", .flag) }
    case .identify:
      let cns = UInt8(truncatingIfNeeded: sqe.cdw10)
      add("structure", NVMeName.cns(cns), else: UInt64(cns))
    case .abort:
      add("sqid", sqe.cdw10 & 0xffff)
      add("cid", sqe.cdw10 >> 16)
    case .setFeatures, .getFeatures:
      let feature = UInt8(truncatingIfNeeded: sqe.cdw10)
      add("feature", NVMeName.feature(feature), else: UInt64(feature))
      if opcode == .setFeatures { add("value", .hexadecimal(UInt64(sqe.cdw11))) }
      if opcode == .setFeatures, sqe.cdw10 >> 31 != 0 { add("save", .flag) }
      if opcode == .getFeatures, sqe.cdw10 >> 8 & 7 != 0 { add("select", sqe.cdw10 >> 8 & 7) }
    case .asynchronousEventRequest, .keepAlive: break
    }
  }

  /// Kind of the data pointer (Base 2.1, 4.1.1); nothing for a command without one.
  private mutating func describe(dataPointerOf sqe: SubmissionEntry) {
    guard sqe.psdt != 0 else {
      if sqe.prp1 != 0 || sqe.prp2 != 0 { add("data", .name("prp")) }
      return
    }
    switch sqe.sgl1.kind {
    case .dataBlock: add("data", .name("sgl-data-block"))
    case .bitBucket: add("data", .name("sgl-bit-bucket"))
    case .segment: add("data", .name("sgl-segment"))
    case .lastSegment: add("data", .name("sgl-last-segment"))
    case nil: add("data", .name("sgl-unsupported"))
    }
    add("length", sqe.sgl1.length)
  }
}
