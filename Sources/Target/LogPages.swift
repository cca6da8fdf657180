import NVMe

extension Target {
  /// Bytes of the largest log page.
  public static let logBytesMax = 4096

  /// Whether the command requests a page that contains the time.
  public func logPageNeedsTime(_ sqe: SubmissionEntry) -> Bool {
    UInt8(truncatingIfNeeded: sqe.cdw10) == LogPageID.smart.rawValue
  }

  /// Get Log Page (Base 2.1, 5.1.12): the whole page from its beginning, into `bytes`.
  /// - Parameter bytes: `logBytesMax` of them.
  /// - Returns: bytes of the page.
  public func getLogPage(
    _ sqe: SubmissionEntry, nowMs: UInt64, into bytes: UnsafeMutableRawBufferPointer
  ) throws(Status) -> Int {
    precondition(bytes.count == Target.logBytesMax)
    guard let page = LogPageID(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)) else { throw .invalidLogPage }
    // No page belongs to a namespace; the offset counts bytes, not entries.
    guard sqe.nsid == 0 || sqe.nsid == .max || page == .reservationNotification, sqe.cdw14 & 1 << 23 == 0 else {
      throw .invalidField
    }
    let layout = Layout(bytes)
    switch page {
    case .supportedLogPages:
      for page in LogPageID.allCases { layout.put(UInt32(1), at: 4 * Int(page.rawValue)) }
      return 1024
    case .errorInformation:
      errorInformation(layout)
      return ErrorLog.entriesMax * ErrorLog.entryBytes
    case .smart:
      smart(layout, nowMs)
      return 512
    case .firmwareSlot:
      layout.put(UInt8(1), at: 0)  // AFI: slot 1 is active
      layout.put(subsystem.firmwareRevision, at: 8, width: 8)
      return 512
    case .changedNamespaces:
      changedNamespaceList(layout)
      return 4096
    case .commandsSupportedAndEffects:
      guard sqe.commandSet == 0 else { throw .ioCommandSetNotSupported }
      commandEffects(layout)
      return 4096
    case .featuresSupportedAndEffects:
      // FSUPP; the scope of the feature: a namespace (bit 20) or the controller (bit 21).
      for id in FeatureID.allCases {
        layout.put(1 | UInt32(id.isOfNamespace ? 1 << 20 : 1 << 21), at: 4 * Int(id.rawValue))
      }
      return 1024
    // There is no management interface, so it supports no command.
    case .managementCommandsSupportedAndEffects: return 4096
    // The page reports actions of other hosts on a reservation, and there is only one host at a time.
    case .reservationNotification: return 64
    }
  }

  /// The host read a page: unless it retains the event, the event type is reported again (Base 2.1, 5.1.12).
  public mutating func acknowledgeLogPage(_ sqe: SubmissionEntry) {
    guard sqe.cdw10 & 1 << 15 == 0, let page = LogPageID(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)) else { return }
    switch page {
    case .errorInformation: events.clear(type: 0)
    case .smart: events.clear(type: 1)
    case .changedNamespaces:
      changedNamespaces = []
      events.clear(type: 2)
    case .supportedLogPages, .firmwareSlot, .commandsSupportedAndEffects, .featuresSupportedAndEffects,
      .managementCommandsSupportedAndEffects, .reservationNotification:
      break
    }
  }

  /// Figure "Error Information Log Entry Data Structure".
  private func errorInformation(_ layout: Layout) {
    for (index, entry) in errors.entries.enumerated() {
      let at = index * ErrorLog.entryBytes
      layout.put(entry.count, at: at)
      layout.put(entry.qid.rawValue, at: at + 8)
      layout.put(entry.cid.rawValue, at: at + 10)
      layout.put(entry.status.rawValue << 1, at: at + 12)
      layout.put(entry.location, at: at + 14)
      layout.put(entry.lba, at: at + 16)
      layout.put(entry.nsid, at: at + 24)
      layout.put(entry.opcode, at: at + 31)
      layout.put(UInt8(1), at: at + 63)  // Log Page Version: with the opcode
    }
  }

  /// Figure "SMART / Health Information Log Page". Values of 16 bytes have only their lower 8 filled in.
  private func smart(_ layout: Layout, _ nowMs: UInt64) {
    layout.put(criticalWarning, at: 0)
    layout.put(Health.temperature, at: 1)
    layout.put(UInt8(100), at: 3)  // AVSP: all of the spare is there
    layout.put(UInt8(10), at: 4)  // AVSPT
    layout.put(Health.dataUnits(health.bytesRead), at: 32)
    layout.put(Health.dataUnits(health.bytesWritten), at: 48)
    layout.put(health.hostReadCommands, at: 64)
    layout.put(health.hostWriteCommands, at: 80)
    layout.put(health.powerCycles, at: 112)
    layout.put((nowMs &- min(health.firstEnabledMs, nowMs)) / 3_600_000, at: 128)  // Power On Hours
    layout.put(health.unsafeShutdowns, at: 144)
    layout.put(health.mediaErrors, at: 160)
    layout.put(errors.count, at: 176)
  }

  /// The page has room for every possible namespace.
  private func changedNamespaceList(_ layout: Layout) {
    for (index, nsid) in changedNamespaces.enumerated() { layout.put(nsid, at: 4 * index) }
  }

  /// Figure "Commands Supported and Effects Log Page": CSUPP, and LBCC for commands that may change blocks. CSP has the
  /// scope of admin commands, the controller (bit 21), and none for I/O commands, whose scope Linux would report as
  /// unusual effects.
  private func commandEffects(_ layout: Layout) {
    for opcode in AdminOpcode.allCases { layout.put(UInt32(1 | 1 << 21), at: 4 * Int(opcode.rawValue)) }
    for opcode in IOOpcode.allCases {
      let changesBlocks = [.write, .writeZeroes, .datasetManagement, .copy].contains(opcode)
      layout.put(1 | UInt32(changesBlocks ? 2 : 0), at: 1024 + 4 * Int(opcode.rawValue))
    }
  }
}

extension Health {
  /// Units of 512,000 bytes, rounded up.
  static func dataUnits(_ bytes: UInt64) -> UInt64 { bytes / 512_000 + (bytes % 512_000 > 0 ? 1 : 0) }
}
