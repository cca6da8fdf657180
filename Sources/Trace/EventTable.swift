/// Where a field of an event lies in its `Record`.
public enum FieldPlace: Hashable, Sendable {
  case flags, qid, cid
  /// A whole 64-bit half of the record, or the lower or upper 32 bits of one.
  case a, aLow, aHigh, b, bLow, bHigh
  /// `width` bytes, little-endian, at `offset` of the slots behind the record.
  case tail(offset: Int, width: Int)
}

/// How a field reads.
public enum FieldUnit: Sendable {
  /// A number: a queue entry index, a count, an identifier.
  case number
  /// Flags, an address, a digest: shown in hexadecimal.
  case hexadecimal
  /// Bytes.
  case bytes
  /// A stretch of time that ends at the event's own time: ticks in a ring, nanoseconds in a trace.
  case span
  /// Nanoseconds of a clock, the same in ring and trace.
  case nanoseconds
}

public struct EventField: Sendable {
  public let name: String
  public let place: FieldPlace
  public let unit: FieldUnit
  public let meaning: String

  init(_ name: String, _ place: FieldPlace, _ unit: FieldUnit = .number, _ meaning: String) {
    self.name = name
    self.place = place
    self.unit = unit
    self.meaning = meaning
  }
}

/// The definition of one kind of event. Reader, writer, `dump` and the format page's table follow from it.
public struct EventDescription: Sendable {
  public let kind: EventKind
  public let name: String
  public let meaning: String
  /// In the order in which they are stored and shown. Every place that is not named here is zero.
  public let fields: [EventField]
  /// Bytes that always follow the record (a multiple of 32), described by `.tail` fields.
  public let fixedTailBytes: Int
  /// Bytes may follow the record: `bLow` of them where `EventFlag.bytes` is set.
  public let carriesBytes: Bool

  init(
    _ kind: EventKind, _ name: String, _ meaning: String, fixedTailBytes: Int = 0, carriesBytes: Bool = false,
    _ fields: [EventField]
  ) {
    self.kind = kind
    self.name = name
    self.meaning = meaning
    self.fields = fields
    self.fixedTailBytes = fixedTailBytes
    self.carriesBytes = carriesBytes
  }
}

extension EventKind {
  public var description: EventDescription { eventTable[Int(rawValue)]! }

  /// The kind of that name, as `dump --event` takes it.
  public init?(name: String) {
    guard let kind = EventKind.allCases.first(where: { $0.description.name == name }) else { return nil }
    self = kind
  }
}

/// By raw value.
private let eventTable: [EventDescription?] = {
  var table = [EventDescription?](repeating: nil, count: 256)
  for event in eventDescriptions { table[Int(event.kind.rawValue)] = event }
  return table
}()

private let qid = EventField("qid", .qid, "Queue identifier.")
private let cid = EventField("cid", .cid, "Command identifier.")
private let failed = "0x02: the host's memory could not be reached."

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

extension EventField {
  fileprivate init(_ name: String, _ place: FieldPlace, _ meaning: String) {
    self.init(name, place, .number, meaning)
  }
}

private let eventDescriptions: [EventDescription] = [
  EventDescription(
    .registerRead, "register-read", "The host read a controller register; the value is what it was given.",
    [
      EventField("width", .flags, .bytes, "4 or 8."),
      EventField("offset", .a, .hexadecimal, "In BAR 0."),
      EventField("value", .b, .hexadecimal, "Value."),
    ]),
  EventDescription(
    .registerWrite, "register-write", "The host wrote a controller register.",
    [
      EventField("width", .flags, .bytes, "4 or 8."),
      EventField("offset", .a, .hexadecimal, "In BAR 0."),
      EventField("value", .b, .hexadecimal, "Value."),
    ]),
  EventDescription(
    .doorbell, "doorbell", "Engine: a poll found a doorbell changed. Host: the doorbell is about to be written.",
    [
      EventField("flags", .flags, .hexadecimal, "0x01: completion queue head, else submission queue tail."),
      qid,
      EventField("value", .aLow, "Value of the doorbell."),
      EventField("poll", .bLow, .span, "Engine: since the previous poll, which saw the old value."),
    ]),
  EventDescription(
    .fetch, "fetch", "A submission queue entry was transferred.", fixedTailBytes: 64,
    [
      EventField(
        "flags", .flags, .hexadecimal, "\(failed) 0x04: it came with the entry before, in one transfer."),
      qid,
      cid,
      EventField("slot", .aLow, "Entry of the submission queue."),
      EventField("span", .bLow, .span, "Duration of the transfer."),
    ] + entryFields),
  EventDescription(
    .read, "read", "Bytes that the engine interprets were read from host memory: a PRP list, a small payload.",
    carriesBytes: true,
    [
      EventField(
        "flags", .flags, .hexadecimal,
        "\(failed) 0x08: through a window (MMIO). 0x10: there was more than is kept. 0x80: bytes follow."),
      qid,
      cid,
      EventField("address", .a, .hexadecimal, "PCI address."),
      EventField("length", .bLow, .bytes, "Bytes."),
      EventField("span", .bHigh, .span, "Duration of the transfer."),
    ]),
  EventDescription(
    .write, "write", "Bytes that the engine made were written to host memory: identify data, a log page.",
    carriesBytes: true,
    [
      EventField("flags", .flags, .hexadecimal, "\(failed) 0x80: bytes follow."),
      qid,
      cid,
      EventField("address", .a, .hexadecimal, "PCI address."),
      EventField("length", .bLow, .bytes, "Bytes."),
      EventField("span", .bHigh, .span, "Duration of the transfer."),
    ]),
  EventDescription(
    .segment, "segment", "One contiguous piece of a command's data was transferred.",
    [
      EventField(
        "flags", .flags, .hexadecimal,
        "0x01: from the host, else to it. \(failed) 0x08: through a window (MMIO), else by DMA."),
      qid,
      cid,
      EventField("address", .a, .hexadecimal, "PCI address."),
      EventField("length", .bLow, .bytes, "Bytes."),
      EventField("span", .bHigh, .span, "Duration of the transfer."),
    ]),
  EventDescription(
    .completion, "completion",
    "Engine: a completion queue entry is about to become visible in host memory. Host: it was seen there. Kernel: it was written there.",
    [
      EventField("flags", .flags, .hexadecimal, failed),
      EventField("cqid", .qid, "Completion queue identifier."),
      cid,
      EventField("dw0", .aLow, .hexadecimal, "Completion Dword 0."),
      EventField("dw1", .aHigh, .hexadecimal, "Completion Dword 1."),
      EventField("dw2", .bLow, .hexadecimal, "SQ head pointer and SQ identifier."),
      EventField("dw3", .bHigh, .hexadecimal, "CID, phase and status."),
    ]),
  EventDescription(
    .interrupt, "interrupt",
    "An interrupt was raised for the completion queue entries posted since the last one. Kernel's host: it has arrived.",
    [
      EventField("flags", .flags, .hexadecimal, "0x02: it could not be raised."),
      EventField("cqid", .qid, "Completion queue identifier."),
      EventField("vector", .aLow, "Interrupt vector."),
      EventField("entries", .bLow, "Completion queue entries that it announces."),
      EventField("type", .cid, "Kernel's target: 1 INTx, 2 MSI, 4 MSI-X; 0 where it is not known."),
    ]),
  EventDescription(
    .reset, "reset", "The controller was taken back to its initial state from outside its registers.",
    [
      EventField(
        "reason", .flags, "0: device reset, 1: function level reset, 2: the host is gone, 3: the link went down.")
    ]),
  EventDescription(
    .dmaMap, "dma-map", "A range of PCI addresses became reachable.",
    [
      EventField("address", .a, .hexadecimal, "First PCI address."),
      EventField("length", .b, .bytes, "Bytes."),
    ]),
  EventDescription(
    .dmaUnmap, "dma-unmap", "A range of PCI addresses is no longer reachable.",
    [
      EventField("address", .a, .hexadecimal, "First PCI address."),
      EventField("length", .b, .bytes, "Bytes."),
    ]),
  EventDescription(
    .namespace, "namespace", "A namespace was attached or detached while the controller ran.", carriesBytes: true,
    [
      EventField("flags", .flags, .hexadecimal, "0x01: attached, else detached. 0x80: bytes follow."),
      EventField("nsid", .aLow, "Namespace identifier."),
      EventField("blockshift", .aHigh, "Logical block size as a power of two of bytes."),
      EventField("length", .bLow, .bytes, "Bytes: the namespace as in a checkpoint."),
    ]),
  EventDescription(
    .submit, "submit", "Host: a command is about to be written into the submission queue.",
    [
      EventField("opcode", .flags, .hexadecimal, "Opcode."),
      qid,
      cid,
      EventField("slba", .a, "Kernel's host, I/O commands: first logical block."),
    ]),
  EventDescription(
    .map, "map", "The command's data pointer is parsed; its segments are known.",
    [
      qid,
      cid,
      EventField("segments", .aLow, "Segments."),
      EventField("length", .aHigh, .bytes, "Bytes that the command transfers."),
      EventField("span", .bLow, .span, "Duration, list fetches included. Its begin ends the dispatch."),
    ]),
  EventDescription(
    .executeBegin, "execute-begin", "The command was handed to the backend.",
    [
      EventField("opcode", .flags, .hexadecimal, "Opcode."),
      qid,
      cid,
      EventField("slba", .a, "First logical block."),
      EventField("blocks", .bLow, "Logical blocks."),
      EventField("nsid", .bHigh, "Namespace identifier."),
    ]),
  EventDescription(
    .executeEnd, "execute-end", "The backend completed the command.",
    [
      EventField("flags", .flags, .hexadecimal, "0x04: not at once: other work was done since it was handed over."),
      qid,
      cid,
      EventField("status", .aLow, .hexadecimal, "Status field, as in CQE DW3 31:17; 0 is success."),
      EventField("bytes", .aHigh, .bytes, "Kernel: the length of the command's data."),
      EventField(
        "slot", .bLow,
        "Not at once: the command's place in the engine; 1024 a shutdown's flush, 1025 all that a reset has dropped."),
    ]),
  EventDescription(
    .payload, "payload", "The data that a command moved, as a digest and, where the recording keeps it, whole.",
    carriesBytes: true,
    [
      EventField("flags", .flags, .hexadecimal, "0x01: from the host, else to it. 0x80: bytes follow."),
      qid,
      cid,
      EventField("digest", .aLow, .hexadecimal, "CRC32C of the bytes."),
      EventField("offset", .aHigh, .bytes, "Of the first byte in the command's data."),
      EventField("length", .bLow, .bytes, "Bytes."),
    ]),
  EventDescription(
    .completionQueueFull, "completion-queue-full", "A completion waits until the host frees an entry of this queue.",
    [EventField("cqid", .qid, "Completion queue identifier.")]),
  EventDescription(
    .timer, "timer", "A timer of the engine expired.",
    [
      EventField(
        "timer", .flags,
        "0: completion queue entries have waited long enough for their interrupt, 1: keep alive, 2: CC is looked at."),
      EventField("cqid", .qid, "Completion queue identifier, of timer 0."),
    ]),
  EventDescription(
    .time, "time", "The engine asked for the time.",
    [EventField("ms", .a, "Milliseconds since 1970.")]),
  EventDescription(
    .rest, "rest", "While it waited for a completion (host) or for work (engine), the thread gave its core to others.",
    [
      EventField("flags", .flags, .hexadecimal, "0x01: it slept, else it only yielded."),
      qid,
      EventField("span", .a, .span, "From the first time that it did to the look that ended the wait."),
    ]),
  EventDescription(
    .origin, "origin", "Kernel: whose events this stream has. It comes first in the stream.", carriesBytes: true,
    [
      EventField("flags", .flags, .hexadecimal, "0x01: a host's driver, else a target. 0x80: bytes follow."),
      EventField("cpu", .qid, "CPU."),
      EventField("controller", .cid, "Target: controller identifier, 65535 before there is one. Host: nvme instance."),
      EventField("cntlid", .aLow, "Host: identifier of the controller that it drives."),
      EventField("length", .bLow, .bytes, "Bytes: the subsystem's NQN."),
    ]),
  EventDescription(
    .request, "request", "The target core has taken a command: nvmet_req_init.",
    [
      EventField("opcode", .flags, .hexadecimal, "Opcode."),
      qid,
      cid,
      EventField("slba", .a, "I/O commands: first logical block."),
      EventField("blocks", .bLow, "Commands with a range of blocks: logical blocks."),
      EventField("nsid", .bHigh, "Namespace identifier."),
    ]),
  EventDescription(
    .work, "work", "A work item of the driver begins to run.",
    [
      EventField("work", .flags, "0: a command's, 1: a completion queue's."),
      qid,
      EventField("cid", .cid, "Command identifier, of work 0."),
      EventField("queued", .bLow, .span, "Since it was queued; 0 where that was not seen."),
    ]),
  EventDescription(
    .workEnd, "work-end", "The work item has run.",
    [
      EventField("work", .flags, "0: a command's, 1: a completion queue's."),
      qid,
      EventField("cid", .cid, "Command identifier, of work 0."),
    ]),
  EventDescription(.response, "response", "The target core has given a command back to the driver.", [qid, cid]),
  EventDescription(
    .completionQueued, "completion-queued", "A command waits for the completion queue's work.", [qid, cid]),
  EventDescription(
    .interruptRequest, "interrupt-request", "The driver considers raising an interrupt.",
    [
      EventField("force", .flags, "1: at the end of the completion queue's work, if any entry was not announced."),
      EventField("cqid", .qid, "Completion queue identifier."),
    ]),
  EventDescription(
    .window, "window", "Host memory was mapped into an outbound window of the endpoint, or unmapped.",
    [
      EventField("flags", .flags, .hexadecimal, "0x01: unmapped. \(failed) 0x04: a completion queue's, of this qid."),
      qid,
      cid,
      EventField("address", .a, .hexadecimal, "PCI address; 0 where it was unmapped."),
      EventField("length", .bLow, .bytes, "Bytes."),
      EventField("span", .bHigh, .span, "How long that took."),
    ]),
  EventDescription(
    .queue, "queue", "A queue was created or deleted.",
    [
      EventField("flags", .flags, .hexadecimal, "0x01: completion queue, else submission queue. 0x02: deleted."),
      qid,
      EventField("other", .cid, "Of a submission queue: its completion queue. Of a completion queue: its vector."),
      EventField("address", .a, .hexadecimal, "PCI address."),
      EventField("entries", .bLow, "Entries."),
      EventField("status", .bHigh, .hexadecimal, "Status field of the command."),
    ]),
  EventDescription(
    .status, "status", "The controller's status has changed.",
    [
      EventField("csts", .a, .hexadecimal, "CSTS, as the host reads it."),
      EventField("driver", .b, .hexadecimal, "CSTS, as the driver will write it."),
    ]),
  EventDescription(
    .link, "link", "The PCI link went up or down.", [EventField("up", .flags, "1: up, 0: down.")]),
  EventDescription(
    .asynchronousEvent, "asynchronous-event", "The target core reports an asynchronous event.",
    [EventField("result", .a, .hexadecimal, "Completion Dword 0.")]),
  EventDescription(
    .dropped, "dropped", "A command was given up without a completion.",
    [
      qid,
      cid,
      EventField(
        "flags", .flags, .hexadecimal, "0x02: its entry could not be fetched: the command identifier is none."),
    ]),
  EventDescription(
    .block, "block", "A request of the block layer was issued to a driver, or completed by it.",
    [
      EventField(
        "flags", .flags, .hexadecimal,
        "0x01: completed. 0x02: it joins several. Its operation, times 4: 0 read, 1 write, 2 flush, 3 discard, and so on."
      ),
      EventField("sector", .a, "First sector of 512 bytes."),
      EventField("length", .bLow, .bytes, "Bytes."),
      EventField("error", .bHigh, "Completed: the block layer's status, 0 is success."),
      EventField("major", .qid, "Of the device's number; 0 where it is not known."),
      EventField("minor", .cid, "Of the device's number, its lower 16 bits."),
    ]),
  EventDescription(
    .probe, "probe", "What a probe cost while it recorded, by the kernel's own count.", carriesBytes: true,
    [
      EventField("flags", .flags, .hexadecimal, "0x80: bytes follow."),
      EventField("runs", .a, "How often it ran."),
      EventField("length", .bLow, .bytes, "Bytes: its name."),
      EventField("mean", .bHigh, "Nanoseconds that it took in the mean."),
    ]),
  EventDescription(
    .entry, "entry",
    "Kernel's host: the entry of the command that is submitted, as far as the driver has filled it in.",
    fixedTailBytes: 64, [qid, cid] + entryFields),
  EventDescription(
    .queueState, "queue-state",
    "Kernel's host: a completion was found; how far both sides are with its submission queue.",
    [
      qid,
      cid,
      EventField("head", .aLow, "SQ head pointer, as the controller told."),
      EventField("tail", .aHigh, "Submission queue tail, of the driver."),
    ]),
  EventDescription(
    .checkpoint, "checkpoint", "The engine's whole state between two polls. A replay can begin here.",
    carriesBytes: true,
    [
      EventField("flags", .flags, .hexadecimal, "0x80: bytes follow."),
      EventField("length", .bLow, .bytes, "Bytes."),
    ]),
  EventDescription(
    .clock, "clock", "Clocks read together at the event's time.",
    [
      EventField("monotonic", .a, .nanoseconds, "CLOCK_MONOTONIC_RAW."),
      EventField("realtime", .b, .nanoseconds, "CLOCK_REALTIME, since 1970."),
      EventField(
        "residual", .cid,
        "Kernel: nanoseconds by which the times of its events were off those of the trace by then, at most 65535."),
    ]),
  EventDescription(
    .gap, "gap", "Events are missing here.",
    [
      EventField(
        "flags", .flags, .hexadecimal,
        "0x01: the kernel did not run a probe that an interrupt found running, or had no room to see a return."),
      EventField("events", .a, "How many were lost."),
      EventField("since", .bLow, .span, "The stretch of time in which they were; 0: those just before this event."),
    ]),
  EventDescription(
    .ringWait, "ring-wait", "The recorded thread waited for room in its ring; its time is not the engine's.",
    [EventField("span", .a, .span, "How long.")]),
]
