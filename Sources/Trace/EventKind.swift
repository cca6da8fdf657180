/// What can stand in a trace. The numbers are the file format's and never change their meaning.
///
/// A kind means the same in every stream; the stream's source says who saw it. A doorbell in an engine's stream was
/// seen by its poll, in a host's stream it was written.
public enum EventKind: UInt8, CaseIterable, Sendable {
  // What crosses the PCI boundary.
  case registerRead = 1
  case registerWrite = 2
  case doorbell = 3
  case fetch = 4
  case read = 5
  case write = 6
  case segment = 7
  case completion = 8
  case interrupt = 9
  case reset = 10
  case dmaMap = 11
  case dmaUnmap = 12
  case namespace = 13
  // What happens to a command in between.
  case submit = 20
  case map = 21
  case executeBegin = 22
  case executeEnd = 23
  case payload = 24
  case completionQueueFull = 25
  case timer = 26
  case time = 27
  case rest = 28
  // What a kernel's target or driver tells besides.
  case origin = 50
  case request = 51
  case work = 52
  case workEnd = 53
  case response = 54
  case completionQueued = 55
  case interruptRequest = 56
  case window = 57
  case queue = 58
  case status = 59
  case link = 60
  case asynchronousEvent = 61
  case dropped = 62
  case block = 63
  case probe = 64
  case entry = 65
  case queueState = 66
  // What the recorder says of itself.
  case checkpoint = 40
  case clock = 41
  case gap = 42
  case ringWait = 43
}

/// Where an event was seen.
public enum Source: UInt8, CaseIterable, Sendable {
  case engine = 1
  case host = 2
  case kernel = 3
}
