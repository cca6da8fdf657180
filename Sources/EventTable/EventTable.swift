private let qid = EventField("qid", .qid, "Queue identifier.")
private let cid = EventField("cid", .cid, "Command identifier.")
private let cqid = EventField("cqid", .qid, "Completion queue identifier.")
private let opcode = EventField("opcode", .flags, .hexadecimal, "Opcode.")
private let address = EventField("address", .a, .hexadecimal, "PCI address.")
private let length = EventField("length", .bLow, .bytes, "Bytes.")
private let transferSpan = EventField("span", .bHigh, .span, "Duration of the transfer.")
private let nsid = EventField("nsid", .bHigh, "Namespace identifier.")
private let failed = NamedValue(0x02, "failed", "host memory was not accessible", isAnswer: true)
private let fromHost = NamedValue(0x01, "fromHost", "from the host, else to it")
private let carriedBytes = NamedValue(0x80, "bytes", "bytes follow", isAnswer: true)
private let work = EventField.choice(
  "work", .flags, NamedValue(0, "command", "a command's"), NamedValue(1, "completionQueue", "a completion queue's"))

private let registerAccess = [
  EventField("width", .flags, .bytes, "4 or 8."), EventField("offset", .a, .hexadecimal, "In BAR 0."),
  EventField("value", .b, .hexadecimal, "Value."),
]
private let addressRange = [
  EventField("address", .a, .hexadecimal, "First PCI address."), EventField("length", .b, .bytes, "Bytes."),
]

/// The 64 bytes of a submission queue entry that follow an event.
private let entryFields: [EventField] = [
  EventField("opcode", .tail(offset: 0, width: 1), .hexadecimal, "Opcode (CDW0 7:0)."),
  EventField("cdw0flags", .tail(offset: 1, width: 1), .hexadecimal, "PSDT and FUSE (CDW0 15:8)."),
  EventField("sqecid", .tail(offset: 2, width: 2), .number, "CID (CDW0 31:16)."),
  EventField("nsid", .tail(offset: 4, width: 4), .number, "Namespace identifier."),
  EventField("cdw2", .tail(offset: 8, width: 4), .hexadecimal, "Command Dword 2."),
  EventField("cdw3", .tail(offset: 12, width: 4), .hexadecimal, "Command Dword 3."),
  EventField("mptr", .tail(offset: 16, width: 8), .hexadecimal, "Metadata pointer."),
  EventField("prp1", .tail(offset: 24, width: 8), .hexadecimal, "DPTR 63:0."),
  EventField("prp2", .tail(offset: 32, width: 8), .hexadecimal, "DPTR 127:64."),
  EventField("slba", .tail(offset: 40, width: 8), .number, "Command Dwords 10 and 11."),
  EventField("cdw12", .tail(offset: 48, width: 4), .hexadecimal, "Command Dword 12."),
  EventField("cdw13", .tail(offset: 52, width: 4), .hexadecimal, "Command Dword 13."),
  EventField("cdw14", .tail(offset: 56, width: 4), .hexadecimal, "Command Dword 14."),
  EventField("cdw15", .tail(offset: 60, width: 4), .hexadecimal, "Command Dword 15."),
]

/// Every kind of event. A kind means the same in every stream, but the stream's source determines the point of view: a
/// `doorbell` of an engine was seen by its poll, one of a host was written.
public let eventTable: [EventDescription] = [
  EventDescription(
    1, "register-read", "The host read a controller register and received the value.",
    registerAccess),
  EventDescription(
    2, "register-write", "The host wrote a controller register.",
    registerAccess),
  EventDescription(
    3, "doorbell", "Engine: a poll saw a changed doorbell. Host: it is about to write the doorbell.",
    [
      .flags(NamedValue(0x01, "completionHead", "completion queue head, else submission queue tail")),
      qid,
      EventField("value", .aLow, "Value of the doorbell.").answered,
      EventField("poll", .bLow, .span, "Engine: since the previous poll, which saw the old value."),
    ]),
  EventDescription(
    4, "fetch", "A submission queue entry was transferred.", fixedTailBytes: 64,
    [
      .flags(
        failed, NamedValue(0x04, "joined", "it shared the transfer of the previous entry"),
        NamedValue(0x08, "window", "kernel: through a window (MMIO)")),
      qid, cid.answered,
      EventField("slot", .aLow, "Entry of the submission queue."),
      EventField("span", .bLow, .span, "Duration of the transfer."),
    ] + entryFields),
  EventDescription(
    5, "read", "The engine read bytes that it interprets from host memory: a PRP list, a small payload.",
    carriesBytes: true,
    [
      .flags(
        failed, NamedValue(0x08, "window", "through a window (MMIO)"),
        NamedValue(0x10, "cut", "truncated"), carriedBytes),
      qid, cid,
      address, length, transferSpan,
    ]),
  EventDescription(
    6, "write", "The engine wrote bytes of its own to host memory: Identify data, a log page.",
    carriesBytes: true,
    [
      .flags(failed, carriedBytes), qid, cid,
      address, length, transferSpan,
    ]),
  EventDescription(
    7, "segment", "One contiguous piece of a command's data was transferred.",
    [
      .flags(fromHost, failed, NamedValue(0x08, "window", "through a window (MMIO), else by DMA")),
      qid, cid,
      address, length, transferSpan,
    ]),
  EventDescription(
    8, "completion",
    "Engine: a completion queue entry is about to become visible in host memory. Host: it saw the entry. Kernel: it wrote the entry.",
    [
      .flags(failed), cqid, cid,
      EventField("dw0", .aLow, .hexadecimal, "Completion Dword 0."),
      EventField("dw1", .aHigh, .hexadecimal, "Completion Dword 1."),
      EventField("dw2", .bLow, .hexadecimal, "SQ head pointer and SQ identifier."),
      EventField("dw3", .bHigh, .hexadecimal, "CID, phase and status."),
    ]),
  EventDescription(
    9, "interrupt",
    "An interrupt was raised for the completion queue entries posted since the last one. Kernel's host: it arrived.",
    [
      .flags(NamedValue(0x02, "failed", "raising it failed", isAnswer: true)),
      cqid,
      EventField("vector", .aLow, "Interrupt vector."),
      EventField("entries", .bLow, "Completion queue entries that it announces."),
      .choice(
        "type", .cid, NamedValue(0, "unknown", "unknown"), NamedValue(1, "intx", "INTx"), NamedValue(2, "msi", "MSI"),
        NamedValue(4, "msix", "MSI-X"), meaning: "Kernel's target: 1 INTx, 2 MSI, 4 MSI-X; 0 unknown."),
    ]),
  EventDescription(
    10, "reset", "The controller was reset to its initial state by something other than its registers.",
    [
      .choice(
        "reason", .flags, NamedValue(0, "device", "device reset"), NamedValue(1, "function", "function level reset"),
        NamedValue(2, "hostGone", "the host disconnected"), NamedValue(3, "linkDown", "the link went down"))
    ]),
  EventDescription(
    11, "dma-map", "A range of PCI addresses became accessible.",
    addressRange),
  EventDescription(
    12, "dma-unmap", "A range of PCI addresses is no longer accessible.",
    addressRange),
  EventDescription(
    13, "namespace", "A namespace was attached or detached while the controller ran.", carriesBytes: true,
    [
      .flags(NamedValue(0x01, "attached", "attached, else detached"), carriedBytes),
      EventField("nsid", .aLow, "Namespace identifier."),
      EventField("blockshift", .aHigh, "Logical block size as a power of two of bytes."),
      EventField("length", .bLow, .bytes, "Bytes: the namespace as in a checkpoint.").answered,
    ]),
  EventDescription(
    20, "submit", "Host: a command is about to be written into the submission queue.",
    [
      opcode, qid, cid,
      EventField("slba", .a, "Kernel's host, I/O commands: first logical block."),
    ]),
  EventDescription(
    21, "map", "The command's data pointer is parsed; its segments are known.",
    [
      qid, cid,
      EventField("segments", .aLow, "Segments."),
      EventField("length", .aHigh, .bytes, "Bytes that the command transfers."),
      EventField("span", .bLow, .span, "Duration, including list fetches. Its beginning ends the dispatch."),
    ]),
  EventDescription(
    22, "execute-begin", "The command was handed to the backend.",
    [
      opcode, qid, cid,
      EventField("slba", .a, "First logical block."),
      EventField("blocks", .bLow, "Logical blocks."),
      nsid,
    ]),
  EventDescription(
    23, "execute-end", "The backend completed the command.",
    [
      .flags(NamedValue(0x04, "later", "deferred: the engine did other work since it submitted the request")),
      qid, cid,
      EventField("status", .aLow, .hexadecimal, "Status field, as in CQE DW3 31:17; 0 is success.").answered,
      EventField("bytes", .aHigh, .bytes, "Kernel: length of the command's data."),
      EventField(
        "slot", .bLow,
        "Deferred: the command's slot; 1024: the flush of a shutdown, 1025: all requests abandoned by a reset."),
    ]),
  EventDescription(
    24, "payload", "Digest of the data that a command transferred and, if the recording keeps it, the data.",
    carriesBytes: true,
    [
      .flags(fromHost, carriedBytes), qid, cid,
      EventField("digest", .aLow, .hexadecimal, "CRC32C of the bytes.").answered,
      EventField("offset", .aHigh, .bytes, "Offset of the first byte in the command's data."),
      length.answered,
      EventField("span", .bHigh, .span, "Duration of the digest, which only a recording computes."),
    ]),
  EventDescription(
    25, "completion-queue-full", "A completion waits until the host frees an entry of this queue.",
    [cqid]),
  EventDescription(
    26, "timer", "A timer of the engine expired.",
    [
      .choice(
        "timer", .flags,
        NamedValue(0, "aggregation", "the aggregation time of a completion queue has passed"),
        NamedValue(1, "keepAlive", "keep alive"), NamedValue(2, "configuration", "CC is polled")
      ).answered,
      EventField("cqid", .qid, "Completion queue identifier (timer 0).").answered,
    ]),
  EventDescription(
    27, "time", "The engine asked for the time of day.",
    [EventField("ms", .a, "Milliseconds since 1970.").answered]),
  EventDescription(
    28, "rest", "The thread yielded its core while it waited for a completion (host) or for work (engine).",
    [
      .flags(NamedValue(0x01, "slept", "it slept, else it only yielded")),
      qid,
      EventField("span", .a, .span, "From the first yield to the poll that ended the wait."),
    ]),
  EventDescription(
    29, "fault",
    "The engine was told to inject a fault here (--inject), or the fault ends. It precedes the event of the call that it changes.",
    [
      .choice(
        "fault", .flags,
        NamedValue(0, "delay", "time spent in a stage"),
        NamedValue(1, "error", "the backend's status was replaced"),
        NamedValue(2, "dropCompletion", "a completion is never written"),
        NamedValue(3, "duplicateCompletion", "a completion is written twice"),
        NamedValue(4, "lateCompletion", "a completion is written later"),
        NamedValue(5, "reorderCompletion", "a completion is written after a later one"),
        NamedValue(6, "wrongPhase", "a completion has the wrong phase tag"),
        NamedValue(7, "wrongSqhd", "a completion has the wrong SQ head pointer"),
        NamedValue(8, "wrongCid", "a completion has the wrong command identifier"),
        NamedValue(9, "dropInterrupt", "an interrupt is not raised"),
        NamedValue(10, "duplicateInterrupt", "an interrupt is raised twice"),
        NamedValue(11, "lateInterrupt", "an interrupt is raised later"),
        NamedValue(12, "stuckDoorbell", "writes of a tail doorbell are not seen"),
        NamedValue(13, "prpOffByOne", "a PRP list is read one entry too far"),
        NamedValue(14, "slowRequest", "the backend begins a request later"),
        NamedValue(15, "stall", "the backend begins no request"),
        NamedValue(16, "shortTransfer", "half of a segment is transferred"),
        NamedValue(17, "failTransfer", "a segment is not transferred, as if its memory were not accessible"),
        NamedValue(18, "linkLoss", "the link goes down"),
        NamedValue(19, "controllerFatal", "the controller stops (CSTS.CFS)")),
      qid, cid,
      EventField(
        "detail", .a,
        "delay, late, slow, stuck, stall, link: nanoseconds, the highest value for ever. error: the status field. dropCompletion, wrongPhase, duplicateCompletion: the entry of the completion queue that the host sees. wrongSqhd, wrongCid: the value written. prpOffByOne: address of the list. shortTransfer, failTransfer: bytes transferred."
      ),
      EventField("rule", .bLow, "Which of the recording's --inject options, from 1."),
      EventField("ended", .bHigh, "1: the fault ends here."),
    ]),
  EventDescription(
    50, "origin", "Kernel: owner of the stream. First event of the stream.", carriesBytes: true,
    [
      .flags(NamedValue(0x01, "host", "a host's driver, else a target"), carriedBytes),
      EventField("cpu", .qid, "CPU."),
      EventField("controller", .cid, "Target: controller identifier, 65535 before it has one. Host: nvme instance."),
      EventField("cntlid", .aLow, "Host: identifier of the controller it drives."),
      EventField("length", .bLow, .bytes, "Bytes: the subsystem's NQN."),
    ]),
  EventDescription(
    51, "request", "The target core accepted a command (nvmet_req_init).",
    [
      opcode, qid, cid,
      EventField("slba", .a, "I/O commands: first logical block."),
      EventField("blocks", .bLow, "Logical blocks, for commands with a range of blocks."),
      nsid,
    ]),
  EventDescription(
    52, "work", "A work item of the driver starts to run.",
    [
      work,
      qid,
      EventField("cid", .cid, "Command identifier (work 0)."),
      EventField("queued", .bLow, .span, "Since it was queued; 0 if that was not recorded."),
    ]),
  EventDescription(
    53, "work-end", "The work item finished.",
    [
      work,
      qid,
      EventField("cid", .cid, "Command identifier (work 0)."),
    ]),
  EventDescription(
    54, "response", "The target core returned a command to the driver.", [qid, cid]),
  EventDescription(
    55, "completion-queued", "A command waits for the work item of its completion queue.", [qid, cid]),
  EventDescription(
    56, "interrupt-request", "The driver decides whether to raise an interrupt.",
    [
      EventField("force", .flags, "1: at the end of the completion queue's work, if any entry is unannounced."),
      cqid,
    ]),
  EventDescription(
    57, "window", "Host memory was mapped into an outbound window of the endpoint, or unmapped.",
    [
      .flags(
        NamedValue(0x01, "unmapped", "unmapped"), failed,
        NamedValue(0x04, "completionQueue", "for the completion queue with this qid")),
      qid, cid,
      EventField("address", .a, .hexadecimal, "PCI address; 0 if unmapped."),
      length,
      EventField("span", .bHigh, .span, "Duration."),
    ]),
  EventDescription(
    58, "queue", "A queue was created or deleted.",
    [
      .flags(
        NamedValue(0x01, "completionQueue", "completion queue, else submission queue"),
        NamedValue(0x02, "deleted", "deleted")),
      qid,
      EventField("other", .cid, "Submission queue: its completion queue. Completion queue: its vector."),
      address,
      EventField("entries", .bLow, "Entries."),
      EventField("status", .bHigh, .hexadecimal, "Status field of the command."),
    ]),
  EventDescription(
    59, "status", "The controller's status changed.",
    [
      EventField("csts", .a, .hexadecimal, "CSTS as the host reads it."),
      EventField("driver", .b, .hexadecimal, "CSTS as the driver will write it."),
    ]),
  EventDescription(
    60, "link", "The PCI link went up or down.",
    [.choice("up", .flags, NamedValue(1, "up", "up"), NamedValue(0, "down", "down"))]),
  EventDescription(
    61, "asynchronous-event", "The target core reports an asynchronous event.",
    [EventField("result", .a, .hexadecimal, "Completion Dword 0.")]),
  EventDescription(
    62, "dropped", "A command was abandoned without a completion.",
    [
      qid, cid,
      .flags(NamedValue(0x02, "failed", "the fetch of its entry failed; the command identifier is invalid")),
    ]),
  EventDescription(
    63, "block", "The block layer issued a request to a driver, or the driver completed it.",
    [
      .flags(
        NamedValue(0x01, "completed", "completed"), NamedValue(0x02, "joined", "part of a merged request"),
        note: "Operation × 4: 0 read, 1 write, 2 flush, 3 discard, and so on."),
      EventField("sector", .a, "First sector of 512 bytes."),
      length,
      EventField("error", .bHigh, "Completed: block layer status; 0 is success."),
      EventField("major", .qid, "Major device number; 0 if unknown."),
      EventField("minor", .cid, "Minor device number, lower 16 bits."),
    ]),
  EventDescription(
    64, "probe", "Cost of a probe during the recording, counted by the kernel.", carriesBytes: true,
    [
      .flags(carriedBytes), EventField("runs", .a, "Number of runs."),
      EventField("length", .bLow, .bytes, "Bytes: its name."),
      EventField("mean", .bHigh, "Mean nanoseconds per run."),
    ]),
  EventDescription(
    65, "entry",
    "Kernel's host: submission queue entry of a command, as far as the driver has filled it in.",
    fixedTailBytes: 64, [qid, cid] + entryFields),
  EventDescription(
    66, "queue-state",
    "Kernel's host: positions of both sides in the submission queue when the driver found a completion.",
    [
      qid, cid,
      EventField("head", .aLow, "SQ head pointer, as reported by the controller."),
      EventField("tail", .aHigh, "Submission queue tail of the driver."),
    ]),
  EventDescription(
    40, "checkpoint", "Complete state of the engine between two polls. A replay can start here.",
    carriesBytes: true,
    [
      .flags(carriedBytes), length,
    ]),
  EventDescription(
    41, "clock", "Clocks read together at the event's time.",
    [
      EventField("monotonic", .a, .nanoseconds, "CLOCK_MONOTONIC_RAW."),
      EventField("realtime", .b, .nanoseconds, "CLOCK_REALTIME, since 1970."),
      EventField(
        "residual", .cid,
        "Kernel: error of the kernel's event times against the trace's clock in nanoseconds, at most 65535."),
    ]),
  EventDescription(
    42, "gap", "Events were lost here.",
    [
      .flags(
        NamedValue(
          0x01, "notRun",
          "the kernel did not run a probe: it was already running, or a return probe had no free instance")
      ),
      EventField("events", .a, "Number of lost events."),
      EventField("since", .bLow, .span, "Period in which they were lost; 0: immediately before this event."),
    ]),
  EventDescription(
    43, "ring-wait",
    "The recorded thread waited for room in its ring for the event before this one, whose time is that before the wait.",
    [EventField("span", .a, .span, "Duration.")]),
  EventDescription(
    44, "state-hash",
    "Hash of the engine's complete state between two polls: that of a checkpoint here.",
    [
      EventField("hash", .a, .hexadecimal, "Hash of the checkpoint's bytes."),
      EventField("length", .bLow, .bytes, "Bytes of the checkpoint; 0: the hash is not known."),
      EventField("span", .bHigh, .span, "Duration of the hash, which only a recording computes."),
    ]),
]
