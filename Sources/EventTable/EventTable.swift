private let qid = EventField("qid", .qid, "Queue identifier.")
private let cid = EventField("cid", .cid, "Command identifier.")
private let failed = NamedValue(0x02, "failed", "the host's memory could not be reached", isAnswer: true)
private let fromHost = NamedValue(0x01, "fromHost", "from the host, else to it")
private let carriedBytes = NamedValue(0x80, "bytes", "bytes follow", isAnswer: true)
private let work = EventField.choice(
  "work", .flags, NamedValue(0, "command", "a command's"), NamedValue(1, "completionQueue", "a completion queue's"))

/// The 64 bytes of a submission queue entry behind an event.
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

/// Every kind of event. A kind means the same in every stream; the stream's source says who saw it: a doorbell in an
/// engine's stream was seen by its poll, in a host's stream it was written.
public let eventTable: [EventDescription] = [
  EventDescription(
    1, "register-read", "The host read a controller register; the value is what it was given.",
    [
      EventField("width", .flags, .bytes, "4 or 8."),
      EventField("offset", .a, .hexadecimal, "In BAR 0."),
      EventField("value", .b, .hexadecimal, "Value."),
    ]),
  EventDescription(
    2, "register-write", "The host wrote a controller register.",
    [
      EventField("width", .flags, .bytes, "4 or 8."),
      EventField("offset", .a, .hexadecimal, "In BAR 0."),
      EventField("value", .b, .hexadecimal, "Value."),
    ]),
  EventDescription(
    3, "doorbell", "Engine: a poll found a doorbell changed. Host: the doorbell is about to be written.",
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
        failed, NamedValue(0x04, "joined", "it came with the entry before, in one transfer"),
        NamedValue(0x08, "window", "kernel: through a window (MMIO)")),
      qid,
      cid.answered,
      EventField("slot", .aLow, "Entry of the submission queue."),
      EventField("span", .bLow, .span, "Duration of the transfer."),
    ] + entryFields),
  EventDescription(
    5, "read", "Bytes that the engine interprets were read from host memory: a PRP list, a small payload.",
    carriesBytes: true,
    [
      .flags(
        failed, NamedValue(0x08, "window", "through a window (MMIO)"),
        NamedValue(0x10, "cut", "there was more than is kept"), carriedBytes),
      qid,
      cid,
      EventField("address", .a, .hexadecimal, "PCI address."),
      EventField("length", .bLow, .bytes, "Bytes."),
      EventField("span", .bHigh, .span, "Duration of the transfer."),
    ]),
  EventDescription(
    6, "write", "Bytes that the engine made were written to host memory: identify data, a log page.",
    carriesBytes: true,
    [
      .flags(failed, carriedBytes),
      qid,
      cid,
      EventField("address", .a, .hexadecimal, "PCI address."),
      EventField("length", .bLow, .bytes, "Bytes."),
      EventField("span", .bHigh, .span, "Duration of the transfer."),
    ]),
  EventDescription(
    7, "segment", "One contiguous piece of a command's data was transferred.",
    [
      .flags(fromHost, failed, NamedValue(0x08, "window", "through a window (MMIO), else by DMA")),
      qid,
      cid,
      EventField("address", .a, .hexadecimal, "PCI address."),
      EventField("length", .bLow, .bytes, "Bytes."),
      EventField("span", .bHigh, .span, "Duration of the transfer."),
    ]),
  EventDescription(
    8, "completion",
    "Engine: a completion queue entry is about to become visible in host memory. Host: it was seen there. Kernel: it was written there.",
    [
      .flags(failed),
      EventField("cqid", .qid, "Completion queue identifier."),
      cid,
      EventField("dw0", .aLow, .hexadecimal, "Completion Dword 0."),
      EventField("dw1", .aHigh, .hexadecimal, "Completion Dword 1."),
      EventField("dw2", .bLow, .hexadecimal, "SQ head pointer and SQ identifier."),
      EventField("dw3", .bHigh, .hexadecimal, "CID, phase and status."),
    ]),
  EventDescription(
    9, "interrupt",
    "An interrupt was raised for the completion queue entries posted since the last one. Kernel's host: it has arrived.",
    [
      .flags(NamedValue(0x02, "failed", "it could not be raised", isAnswer: true)),
      EventField("cqid", .qid, "Completion queue identifier."),
      EventField("vector", .aLow, "Interrupt vector."),
      EventField("entries", .bLow, "Completion queue entries that it announces."),
      .choice(
        "type", .cid, NamedValue(0, "unknown", "not known"), NamedValue(1, "intx", "INTx"), NamedValue(2, "msi", "MSI"),
        NamedValue(4, "msix", "MSI-X"), meaning: "Kernel's target: 1 INTx, 2 MSI, 4 MSI-X; 0 where it is not known."),
    ]),
  EventDescription(
    10, "reset", "The controller was taken back to its initial state from outside its registers.",
    [
      .choice(
        "reason", .flags, NamedValue(0, "device", "device reset"), NamedValue(1, "function", "function level reset"),
        NamedValue(2, "hostGone", "the host is gone"), NamedValue(3, "linkDown", "the link went down"))
    ]),
  EventDescription(
    11, "dma-map", "A range of PCI addresses became reachable.",
    [
      EventField("address", .a, .hexadecimal, "First PCI address."),
      EventField("length", .b, .bytes, "Bytes."),
    ]),
  EventDescription(
    12, "dma-unmap", "A range of PCI addresses is no longer reachable.",
    [
      EventField("address", .a, .hexadecimal, "First PCI address."),
      EventField("length", .b, .bytes, "Bytes."),
    ]),
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
      EventField("opcode", .flags, .hexadecimal, "Opcode."),
      qid,
      cid,
      EventField("slba", .a, "Kernel's host, I/O commands: first logical block."),
    ]),
  EventDescription(
    21, "map", "The command's data pointer is parsed; its segments are known.",
    [
      qid,
      cid,
      EventField("segments", .aLow, "Segments."),
      EventField("length", .aHigh, .bytes, "Bytes that the command transfers."),
      EventField("span", .bLow, .span, "Duration, list fetches included. Its begin ends the dispatch."),
    ]),
  EventDescription(
    22, "execute-begin", "The command was handed to the backend.",
    [
      EventField("opcode", .flags, .hexadecimal, "Opcode."),
      qid,
      cid,
      EventField("slba", .a, "First logical block."),
      EventField("blocks", .bLow, "Logical blocks."),
      EventField("nsid", .bHigh, "Namespace identifier."),
    ]),
  EventDescription(
    23, "execute-end", "The backend completed the command.",
    [
      .flags(NamedValue(0x04, "later", "not at once: other work was done since it was handed over")),
      qid,
      cid,
      EventField("status", .aLow, .hexadecimal, "Status field, as in CQE DW3 31:17; 0 is success.").answered,
      EventField("bytes", .aHigh, .bytes, "Kernel: the length of the command's data."),
      EventField(
        "slot", .bLow,
        "Not at once: the command's place in the engine; 1024 a shutdown's flush, 1025 all that a reset has dropped."),
    ]),
  EventDescription(
    24, "payload", "The data that a command moved, as a digest and, where the recording keeps it, whole.",
    carriesBytes: true,
    [
      .flags(fromHost, carriedBytes),
      qid,
      cid,
      EventField("digest", .aLow, .hexadecimal, "CRC32C of the bytes.").answered,
      EventField("offset", .aHigh, .bytes, "Of the first byte in the command's data."),
      EventField("length", .bLow, .bytes, "Bytes.").answered,
    ]),
  EventDescription(
    25, "completion-queue-full", "A completion waits until the host frees an entry of this queue.",
    [EventField("cqid", .qid, "Completion queue identifier.")]),
  EventDescription(
    26, "timer", "A timer of the engine expired.",
    [
      .choice(
        "timer", .flags,
        NamedValue(0, "aggregation", "completion queue entries have waited long enough for their interrupt"),
        NamedValue(1, "keepAlive", "keep alive"), NamedValue(2, "configuration", "CC is looked at")
      ).answered,
      EventField("cqid", .qid, "Completion queue identifier, of timer 0.").answered,
    ]),
  EventDescription(
    27, "time", "The engine asked for the time.",
    [EventField("ms", .a, "Milliseconds since 1970.").answered]),
  EventDescription(
    28, "rest", "While it waited for a completion (host) or for work (engine), the thread gave its core to others.",
    [
      .flags(NamedValue(0x01, "slept", "it slept, else it only yielded")),
      qid,
      EventField("span", .a, .span, "From the first time that it did to the look that ended the wait."),
    ]),
  EventDescription(
    50, "origin", "Kernel: whose events this stream has. It comes first in the stream.", carriesBytes: true,
    [
      .flags(NamedValue(0x01, "host", "a host's driver, else a target"), carriedBytes),
      EventField("cpu", .qid, "CPU."),
      EventField("controller", .cid, "Target: controller identifier, 65535 before there is one. Host: nvme instance."),
      EventField("cntlid", .aLow, "Host: identifier of the controller that it drives."),
      EventField("length", .bLow, .bytes, "Bytes: the subsystem's NQN."),
    ]),
  EventDescription(
    51, "request", "The target core has taken a command: nvmet_req_init.",
    [
      EventField("opcode", .flags, .hexadecimal, "Opcode."),
      qid,
      cid,
      EventField("slba", .a, "I/O commands: first logical block."),
      EventField("blocks", .bLow, "Commands with a range of blocks: logical blocks."),
      EventField("nsid", .bHigh, "Namespace identifier."),
    ]),
  EventDescription(
    52, "work", "A work item of the driver begins to run.",
    [
      work,
      qid,
      EventField("cid", .cid, "Command identifier, of work 0."),
      EventField("queued", .bLow, .span, "Since it was queued; 0 where that was not seen."),
    ]),
  EventDescription(
    53, "work-end", "The work item has run.",
    [
      work,
      qid,
      EventField("cid", .cid, "Command identifier, of work 0."),
    ]),
  EventDescription(
    54, "response", "The target core has given a command back to the driver.", [qid, cid]),
  EventDescription(
    55, "completion-queued", "A command waits for the completion queue's work.", [qid, cid]),
  EventDescription(
    56, "interrupt-request", "The driver considers raising an interrupt.",
    [
      EventField("force", .flags, "1: at the end of the completion queue's work, if any entry was not announced."),
      EventField("cqid", .qid, "Completion queue identifier."),
    ]),
  EventDescription(
    57, "window", "Host memory was mapped into an outbound window of the endpoint, or unmapped.",
    [
      .flags(
        NamedValue(0x01, "unmapped", "unmapped"), failed,
        NamedValue(0x04, "completionQueue", "a completion queue's, of this qid")),
      qid,
      cid,
      EventField("address", .a, .hexadecimal, "PCI address; 0 where it was unmapped."),
      EventField("length", .bLow, .bytes, "Bytes."),
      EventField("span", .bHigh, .span, "How long that took."),
    ]),
  EventDescription(
    58, "queue", "A queue was created or deleted.",
    [
      .flags(
        NamedValue(0x01, "completionQueue", "completion queue, else submission queue"),
        NamedValue(0x02, "deleted", "deleted")),
      qid,
      EventField("other", .cid, "Of a submission queue: its completion queue. Of a completion queue: its vector."),
      EventField("address", .a, .hexadecimal, "PCI address."),
      EventField("entries", .bLow, "Entries."),
      EventField("status", .bHigh, .hexadecimal, "Status field of the command."),
    ]),
  EventDescription(
    59, "status", "The controller's status has changed.",
    [
      EventField("csts", .a, .hexadecimal, "CSTS, as the host reads it."),
      EventField("driver", .b, .hexadecimal, "CSTS, as the driver will write it."),
    ]),
  EventDescription(
    60, "link", "The PCI link went up or down.",
    [.choice("up", .flags, NamedValue(1, "up", "up"), NamedValue(0, "down", "down"))]),
  EventDescription(
    61, "asynchronous-event", "The target core reports an asynchronous event.",
    [EventField("result", .a, .hexadecimal, "Completion Dword 0.")]),
  EventDescription(
    62, "dropped", "A command was given up without a completion.",
    [
      qid,
      cid,
      .flags(NamedValue(0x02, "failed", "its entry could not be fetched: the command identifier is none")),
    ]),
  EventDescription(
    63, "block", "A request of the block layer was issued to a driver, or completed by it.",
    [
      .flags(
        NamedValue(0x01, "completed", "completed"), NamedValue(0x02, "joined", "it joins several"),
        note: "Its operation, times 4: 0 read, 1 write, 2 flush, 3 discard, and so on."),
      EventField("sector", .a, "First sector of 512 bytes."),
      EventField("length", .bLow, .bytes, "Bytes."),
      EventField("error", .bHigh, "Completed: the block layer's status, 0 is success."),
      EventField("major", .qid, "Of the device's number; 0 where it is not known."),
      EventField("minor", .cid, "Of the device's number, its lower 16 bits."),
    ]),
  EventDescription(
    64, "probe", "What a probe cost while it recorded, by the kernel's own count.", carriesBytes: true,
    [
      .flags(carriedBytes),
      EventField("runs", .a, "How often it ran."),
      EventField("length", .bLow, .bytes, "Bytes: its name."),
      EventField("mean", .bHigh, "Nanoseconds that it took in the mean."),
    ]),
  EventDescription(
    65, "entry",
    "Kernel's host: the entry of the command that is submitted, as far as the driver has filled it in.",
    fixedTailBytes: 64, [qid, cid] + entryFields),
  EventDescription(
    66, "queue-state",
    "Kernel's host: a completion was found; how far both sides are with its submission queue.",
    [
      qid,
      cid,
      EventField("head", .aLow, "SQ head pointer, as the controller told."),
      EventField("tail", .aHigh, "Submission queue tail, of the driver."),
    ]),
  EventDescription(
    40, "checkpoint", "The engine's whole state between two polls. A replay can begin here.",
    carriesBytes: true,
    [
      .flags(carriedBytes),
      EventField("length", .bLow, .bytes, "Bytes."),
    ]),
  EventDescription(
    41, "clock", "Clocks read together at the event's time.",
    [
      EventField("monotonic", .a, .nanoseconds, "CLOCK_MONOTONIC_RAW."),
      EventField("realtime", .b, .nanoseconds, "CLOCK_REALTIME, since 1970."),
      EventField(
        "residual", .cid,
        "Kernel: nanoseconds by which the times of its events were off those of the trace by then, at most 65535."),
    ]),
  EventDescription(
    42, "gap", "Events are missing here.",
    [
      .flags(
        NamedValue(
          0x01, "notRun",
          "the kernel did not run a probe that an interrupt found running, or had no room to see a return")
      ),
      EventField("events", .a, "How many were lost."),
      EventField("since", .bLow, .span, "The stretch of time in which they were; 0: those just before this event."),
    ]),
  EventDescription(
    43, "ring-wait", "The recorded thread waited for room in its ring; its time is not the engine's.",
    [EventField("span", .a, .span, "How long.")]),
]
