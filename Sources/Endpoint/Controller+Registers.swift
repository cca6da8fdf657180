import NVMe
import Target

extension Controller {
  /// How long a host should give the controller to become ready.
  private static let readyTimeoutMs: UInt32 = 7500

  public var capabilities: ControllerCapabilities {
    ControllerCapabilities(queueEntriesMax: target.subsystem.queueEntriesMax, timeoutMs: Controller.readyTimeoutMs)
  }

  /// The host reads `width` bytes (4 or 8) at `offset` of BAR 0. What is reserved reads as zero. A recording may name any
  /// offset, so its arithmetic wraps.
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

  /// The host writes `width` bytes (4 or 8) at `offset` of BAR 0. What is read-only or reserved keeps its value.
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
      takeConfiguration(ControllerConfiguration(rawValue: value & ControllerConfiguration.writable), &port)
    // The admin queue's place is taken when CC.EN rises; a later change waits for the next time.
    case Register.aqa: aqa = value & 0x0fff_0fff
    case Register.asq: asq = asq & 0xffff_ffff_0000_0000 | UInt64(value & 0xffff_f000)
    case Register.asq + 4: asq = asq & 0xffff_ffff | UInt64(value) << 32
    case Register.acq: acq = acq & 0xffff_ffff_0000_0000 | UInt64(value & 0xffff_f000)
    case Register.acq + 4: acq = acq & 0xffff_ffff | UInt64(value) << 32
    default: break
    }
  }

  /// Whether INTx is asserted: a completion queue has entries that were announced and that the host has not freed, and
  /// its vector is not masked (PCIe Transport 1.1).
  public var assertsPin: Bool {
    guard csts.ready, !csts.fatal else { return false }
    for place in 0..<liveCompletion.count {
      let queue = completionQueues + Int(liveCompletion[place].rawValue)
      let isMasked = queue.pointee.vector < 32 && intms & 1 << UInt32(queue.pointee.vector) != 0
      if queue.pointee.interruptsEnabled, !isMasked, queue.pointee.hasAnnouncedEntries { return true }
    }
    return false
  }

  /// What was held back while a vector was masked is announced now, and what was announced before and still lies there
  /// once more.
  private mutating func unmask<P: Port & ~Copyable>(_ bits: UInt32, _ port: inout P) {
    let bits = bits & intms
    intms &= ~bits
    guard csts.ready, !csts.fatal else { return }
    for place in 0..<liveCompletion.count {
      let cqid = liveCompletion[place]
      let queue = completionQueues + Int(cqid.rawValue)
      guard queue.pointee.vector < 32, bits & 1 << UInt32(queue.pointee.vector) != 0 else { continue }
      _ = takeHead(of: cqid, &port)
      // What the host has found without being told needs no interrupt.
      queue.pointee.unannounced = min(queue.pointee.unannounced, queue.pointee.outstanding)
      let isDue = !queue.pointee.isAggregating || queue.pointee.unannounced >= queue.pointee.threshold
      if queue.pointee.hasAnnouncedEntries || queue.pointee.unannounced > 0 && isDue {
        raiseInterrupt(queue, cqid, &port)
      }
    }
  }

  // MARK: Configuration

  private mutating func takeConfiguration<P: Port & ~Copyable>(_ new: ControllerConfiguration, _ port: inout P) {
    let pollMs = target.subsystem.configurationPollMs
    guard pollMs > 0 else { return configure(new, &port) }
    if pendingConfiguration == nil {
      timers += 1
      port.arm(.configuration, afterUs: UInt64(pollMs) * 1000)
    }
    pendingConfiguration = new
  }

  /// CC is looked at, as a driver does that polls it.
  mutating func pollConfiguration<P: Port & ~Copyable>(_ port: inout P) {
    guard let new = pendingConfiguration else { return }
    pendingConfiguration = nil
    timers -= 1
    configure(new, &port)
  }

  private mutating func configure<P: Port & ~Copyable>(_ new: ControllerConfiguration, _ port: inout P) {
    let old = cc
    cc = new
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

  /// CC.EN rises (Base 2.1, 3.5.1). Whoever writes after a reset must not be overtaken by what was written before: the
  /// controller gets ready when that has settled.
  private mutating func enable<P: Port & ~Copyable>(_ port: inout P) {
    guard !isSettling else { return }
    let submissionEntries = (aqa & 0xfff) + 1
    let completionEntries = (aqa >> 16 & 0xfff) + 1
    // The NVM command set alone, or all that are supported, which is the same; entry sizes may be set later.
    guard cc.css == 0 || cc.css == 6, cc.mps == 0, cc.ams == 0, cc.iosqes == 0 || cc.iosqes == 6,
      cc.iocqes == 0 || cc.iocqes == 4, submissionEntries >= 2, completionEntries >= 2
    else { return fail() }
    target.noteEnabled(nowMs: port.clockMs())
    create(
      completion: .admin,
      CompletionQueue(base: acq, size: completionEntries, interruptsEnabled: true), &port)
    create(submission: .admin, SubmissionQueue(base: asq, size: submissionEntries, cqid: .admin), &port)
    // What failed while the controller was disabled, where no reset could follow, is over too.
    csts = ControllerStatus(rawValue: 0)
    csts.ready = true
  }

  /// Nothing that a reset dropped can happen any more.
  mutating func endSettling<P: Port & ~Copyable>(_ port: inout P) {
    isSettling = false
    executing -= 1
    // Who has asked for a shutdown meanwhile wants no controller any more.
    if cc.enable, !cc.isShutdown { enable(&port) }
  }

  /// CC.EN falls: a controller reset (Base 2.1, 3.7.2). Of the registers AQA, ASQ and ACQ keep their values.
  private mutating func disable<P: Port & ~Copyable>(_ port: inout P) {
    deleteAllQueues(&port)
    dropCommands(&port)
    disarmKeepAlive(&port)
    target.reset()
    applyFeatures()
    csts = ControllerStatus(rawValue: 0)
    intms = 0
  }

  /// CC.SHN is set, to a normal or an abrupt shutdown (Base 2.1, 3.6.1): complete when what is cached is on the medium,
  /// whether the controller is enabled or not.
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

  /// What was cached is on the medium, or will never be: then the host must hear of it, which has no other way to.
  mutating func endShutdown<P: Port & ~Copyable>(_ flush: IORequest, _ status: Status, _ port: inout P) {
    port.release(flush)
    if csts.shutdown == 1 { csts.shutdown = 2 }
    guard !status.isSuccess else { return }
    target.health.count(flush, status)
    target.noteError(status)
    fail()
  }

  /// Back to the initial state, from outside the registers. What is in flight is dropped without a completion.
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
