import NVMe
import Target

extension Controller {
  /// How long a host should wait for the controller to become ready.
  private static let readyTimeoutMs: UInt32 = 7500

  /// CAP (Base 2.1, 3.1.4.1).
  public var capabilities: ControllerCapabilities {
    ControllerCapabilities(queueEntriesMax: target.subsystem.queueEntriesMax, timeoutMs: Controller.readyTimeoutMs)
  }

  /// The host reads `width` bytes (4 or 8) at `offset` of BAR 0. Reserved bytes read as zero. A recording may contain
  /// any offset, so its arithmetic wraps.
  public mutating func readRegister<P: Port & ~Copyable>(offset: UInt64, width: Int, _ port: inout P) -> UInt64 {
    var value = UInt64(register(offset))
    if width == 8 { value |= UInt64(register(offset &+ 4)) << 32 }
    port.registerRead(offset: offset, width: width, value: value)
    return value
  }

  private func register(_ offset: UInt64) -> UInt32 {
    switch offset {
    case Register.cap: UInt32(truncatingIfNeeded: capabilities.rawValue)
    case Register.cap + 4: UInt32(capabilities.rawValue >> 32)
    case Register.vs: Target.version
    case Register.intms, Register.intmc: intms
    case Register.cc: (pendingConfiguration ?? cc).rawValue
    case Register.csts: csts.rawValue
    case Register.aqa: aqa
    case Register.asq: UInt32(truncatingIfNeeded: asq)
    case Register.asq + 4: UInt32(asq >> 32)
    case Register.acq: UInt32(truncatingIfNeeded: acq)
    case Register.acq + 4: UInt32(acq >> 32)
    // CRWMT as CAP.TO, in units of 500 ms; there is no readiness without media.
    case Register.crto: capabilities.timeoutMs / 500
    default: 0
    }
  }

  /// The host writes `width` bytes (4 or 8) at `offset` of BAR 0. Read-only and reserved bytes keep their values.
  public mutating func writeRegister<P: Port & ~Copyable>(
    offset: UInt64, width: Int, value: UInt64, _ port: inout P
  ) {
    port.registerWritten(offset: offset, width: width, value: value)
    setRegister(offset, UInt32(truncatingIfNeeded: value), &port)
    if width == 8 { setRegister(offset &+ 4, UInt32(value >> 32), &port) }
  }

  private mutating func setRegister<P: Port & ~Copyable>(_ offset: UInt64, _ value: UInt32, _ port: inout P) {
    switch offset {
    case Register.intms: intms |= value
    case Register.intmc: unmask(value, &port)
    case Register.cc:
      setConfiguration(ControllerConfiguration(rawValue: value & ControllerConfiguration.writable), &port)
    // The admin queue's address is read when CC.EN is set; later changes apply the next time.
    case Register.aqa: aqa = value & 0x0fff_0fff
    case Register.asq: asq = asq & 0xffff_ffff_0000_0000 | UInt64(value & 0xffff_f000)
    case Register.asq + 4: asq = asq & 0xffff_ffff | UInt64(value) << 32
    case Register.acq: acq = acq & 0xffff_ffff_0000_0000 | UInt64(value & 0xffff_f000)
    case Register.acq + 4: acq = acq & 0xffff_ffff | UInt64(value) << 32
    default: break
    }
  }

  /// Whether INTx is asserted: a completion queue has announced entries that the host has not freed, and its vector is
  /// not masked (PCIe Transport 1.1).
  public var assertsPin: Bool {
    guard csts.ready, !csts.fatal else { return false }
    for place in 0..<liveCompletion.count {
      let queue = completionQueues + Int(liveCompletion[place].rawValue)
      let isMasked = queue.pointee.vector < 32 && intms & 1 << UInt32(queue.pointee.vector) != 0
      if queue.pointee.interruptsEnabled, !isMasked, queue.pointee.hasAnnouncedEntries { return true }
    }
    return false
  }

  /// Announce entries held back while a vector was masked, and announce earlier entries again if they are still there.
  private mutating func unmask<P: Port & ~Copyable>(_ bits: UInt32, _ port: inout P) {
    let bits = bits & intms
    intms &= ~bits
    guard csts.ready, !csts.fatal else { return }
    for place in 0..<liveCompletion.count {
      let cqid = liveCompletion[place]
      let queue = completionQueues + Int(cqid.rawValue)
      guard queue.pointee.vector < 32, bits & 1 << UInt32(queue.pointee.vector) != 0 else { continue }
      _ = pollHead(of: cqid, &port)
      // Entries that the host found by itself need no interrupt.
      queue.pointee.unannounced = min(queue.pointee.unannounced, queue.pointee.outstanding)
      let isDue = !queue.pointee.isAggregating || queue.pointee.unannounced >= queue.pointee.threshold
      if queue.pointee.hasAnnouncedEntries || queue.pointee.unannounced > 0 && isDue {
        raiseInterrupt(queue, cqid, &port)
      }
    }
  }

  // MARK: Configuration

  private mutating func setConfiguration<P: Port & ~Copyable>(_ new: ControllerConfiguration, _ port: inout P) {
    let pollMs = target.subsystem.configurationPollMs
    guard pollMs > 0 else { return configure(new, &port) }
    if pendingConfiguration == nil {
      timers += 1
      port.arm(.configuration, afterUs: UInt64(pollMs) * 1000)
    }
    pendingConfiguration = new
  }

  /// Poll CC, like a driver that does not see writes.
  mutating func pollConfiguration<P: Port & ~Copyable>(_ port: inout P) {
    guard let new = pendingConfiguration else { return }
    pendingConfiguration = nil
    timers -= 1
    configure(new, &port)
  }

  private mutating func configure<P: Port & ~Copyable>(_ new: ControllerConfiguration, _ port: inout P) {
    let old = cc
    cc = new
    port.observe(self)
    if new.enable && !old.enable {
      enable(&port)
    } else if !new.enable && old.enable {
      disable(&port)
    }
    if new.isShutdown && !old.isShutdown {
      shutDown(&port)
    } else if !new.isShutdown && old.isShutdown, csts.shutdown == 2 {
      csts.shutdown = 0
    }
  }

  /// CC.EN is set (Base 2.1, 3.5.1). Writes from before the reset must not overtake later ones: the controller becomes
  /// ready when the earlier ones have settled.
  private mutating func enable<P: Port & ~Copyable>(_ port: inout P) {
    guard !isSettling else { return }
    let submissionEntries = (aqa & 0xfff) + 1
    let completionEntries = (aqa >> 16 & 0xfff) + 1
    // The NVM command set alone, or all supported ones, which is the same; entry sizes may be set later.
    guard cc.css == 0 || cc.css == 6, cc.mps == 0, cc.ams == 0, cc.iosqes == 0 || cc.iosqes == 6,
      cc.iocqes == 0 || cc.iocqes == 4, submissionEntries >= 2, completionEntries >= 2
    else { return fail() }
    target.noteEnabled(nowMs: port.clockMs())
    create(
      completion: .admin,
      CompletionQueue(base: acq, size: completionEntries, interruptsEnabled: true), &port)
    create(submission: .admin, SubmissionQueue(base: asq, size: submissionEntries, cqid: .admin), &port)
    // A failure while the controller was disabled, when no reset could clear it, ends here.
    csts = ControllerStatus(rawValue: 0)
    csts.ready = true
  }

  /// No request abandoned by a reset can take effect any more.
  mutating func endSettling<P: Port & ~Copyable>(_ port: inout P) {
    isSettling = false
    executing -= 1
    if csts.shutdown == 1, commands[Int(Controller.shutdownSlot)].state == .free { csts.shutdown = 2 }
    // A host that requested a shutdown in the meantime no longer wants the controller.
    if cc.enable, !cc.isShutdown { enable(&port) }
  }

  /// CC.EN is cleared: a controller reset (Base 2.1, 3.7.2). AQA, ASQ and ACQ keep their values.
  private mutating func disable<P: Port & ~Copyable>(_ port: inout P) {
    deleteAllQueues(&port)
    dropCommands(&port)
    disarmKeepAlive(&port)
    target.reset()
    applyFeatures()
    csts = ControllerStatus(rawValue: 0)
    intms = 0
  }

  /// CC.SHN requests a normal or an abrupt shutdown (Base 2.1, 3.6.1): complete when cached data is on the medium and no
  /// earlier write can reach it, whether the controller is enabled or not.
  private mutating func shutDown<P: Port & ~Copyable>(_ port: inout P) {
    csts.shutdown = Mutant.shutdownWithoutFlush.isPlanted ? 2 : 1
    if Mutant.shutdownWithoutFlush.isPlanted { return }
    var flush = IORequest(
      opcode: .flush, nsid: .max, qid: .admin, cid: CommandID(.max), slba: 0, blocks: 0, blockShift: 0)
    flush.slot = Controller.shutdownSlot
    guard commands[Int(flush.slot)].state == .free else { return }
    if let status = port.execute(flush) {
      endShutdown(flush, status, &port)
    } else {
      keep(Execution(request: flush, segments: 0))
      if Mutant.shutdownBeforeFlush.isPlanted { csts.shutdown = 2 }
    }
  }

  /// Cached data is on the medium, or never will be; the host must learn of that, and has no other way.
  mutating func endShutdown<P: Port & ~Copyable>(_ flush: IORequest, _ status: Status, _ port: inout P) {
    port.release(flush)
    if csts.shutdown == 1, !isSettling { csts.shutdown = 2 }
    guard !status.isSuccess else { return }
    target.health.count(flush, status)
    target.noteError(status)
    fail()
  }

  /// Return to the initial state from outside the registers. Commands in flight are abandoned without a completion.
  public mutating func reset<P: Port & ~Copyable>(_ reason: ResetReason, _ port: inout P) {
    port.willReset(reason)
    if reason == .disconnect || reason == .linkDown {
      target.noteHostGone(wasShutDown: !csts.ready || csts.shutdown == 2)
    }
    disable(&port)
    if pendingConfiguration != nil {
      pendingConfiguration = nil
      timers -= 1
      port.disarm(.configuration)
    }
    cc = ControllerConfiguration(rawValue: 0)
    aqa = 0
    asq = 0
    acq = 0
  }
}
