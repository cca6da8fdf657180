import Endpoint
import Events
import Trace

/// The result of replaying one stream, or several.
public struct ReplayResult: Sendable {
  public var commands: UInt64 = 0
  public var events: UInt64 = 0
  /// Commands that the engine held when the recording ended, other than event requests.
  public var unfinished = 0
  /// Some of them, and what each waits for: "1/5 (read) waits for its backend".
  public var unfinishedCommands: [String] = []
  /// The first divergence; nil if every output was identical.
  public var divergence: Divergence?
  /// All divergences that the replay found, those of the same kind together.
  public var groups: [DivergenceGroup] = []
  /// Events between a divergence and the checkpoint at which the replay went on.
  public var skipped: UInt64 = 0

  static let unfinishedNamed = 8

  public init(
    commands: UInt64 = 0, events: UInt64 = 0, unfinished: Int = 0, unfinishedCommands: [String] = [],
    divergence: Divergence? = nil
  ) {
    self.commands = commands
    self.events = events
    self.unfinished = unfinished
    self.unfinishedCommands = unfinishedCommands
    self.divergence = divergence
  }

  /// And what another replay found.
  public mutating func add(_ other: ReplayResult) {
    commands += other.commands
    events += other.events
    unfinished += other.unfinished
    unfinishedCommands += other.unfinishedCommands.prefix(
      max(0, ReplayResult.unfinishedNamed - unfinishedCommands.count))
    divergence = divergence ?? other.divergence
    groups += other.groups
    skipped += other.skipped
  }
}

/// Divergences of the same kind, at the same kind of event, in the same fields.
public struct DivergenceGroup: Sendable {
  /// The first of them.
  public let first: Divergence
  public private(set) var count: UInt64 = 1
  /// The numbers of the first events.
  public private(set) var events: [UInt64]
  private static let eventsMax = 8

  init(_ first: Divergence) { (self.first, events) = (first, [first.event]) }

  mutating func add(_ other: Divergence) {
    count += 1
    if events.count < DivergenceGroup.eventsMax { events.append(other.event) }
  }
}

extension ReplayResult {
  /// Replay every engine's stream of a trace; nothing where it has none.
  /// - Parameter keepsGoing: continue at the next checkpoint after a divergence.
  public init(replaying reader: TraceReader, keepsGoing: Bool = false) throws(TraceError) {
    self.init()
    for (id, chunks) in reader.streams where id.source == .engine && (divergence == nil || keepsGoing) {
      do throws(TraceError) {
        try replay(ReplayedStream(reader, id.stream, chunks), keepsGoing)
      } catch { throw TraceError(error.kind, "\(reader.path): \(error.description)") }
    }
  }

  private mutating func replay(_ stream: ReplayedStream, _ keepsGoing: Bool) throws(TraceError) {
    var begin: Int? = 0
    while let first = begin {
      try stream.begin(at: first)
      begin = nil
      var replayer: Replayer
      do throws(TraceError) {
        replayer = try Replayer(
          stream: stream.stream, isClosed: stream.reader.isClosed, first: stream.header(first).firstEvent
        ) { () throws(TraceError) in try stream.next() }
      } catch {
        // A checkpoint that differed, and at which nothing can go on.
        guard divergence != nil else { throw error }
        if case .system = error.kind { throw error }
        begin = stream.checkpoint(from: 0)
        let end = begin.map { stream.header($0).firstEvent } ?? stream.end
        skipped += end - min(end, stream.header(first).firstEvent)
        continue
      }
      var part = try replayer.run()
      if var divergence = part.divergence {
        stream.number(&divergence)
        // Different hashes tell nothing of what differs; the event that does comes later.
        if divergence.recordedKind == .stateHash { try stream.examine(&divergence) }
        let place = groups.firstIndex {
          $0.first.stream == divergence.stream && $0.first.isSame(as: divergence)
            && $0.first.isSameLater(as: divergence)
        }
        if let place {
          groups[place].add(divergence)
        } else {
          if divergence.recordedKind != .stateHash { try stream.examine(&divergence) }
          part.groups = [DivergenceGroup(divergence)]
        }
        part.divergence = divergence
        // What it held there was not left at the end.
        (part.unfinished, part.unfinishedCommands) = (0, [])
        if keepsGoing {
          begin = stream.checkpoint(from: divergence.event)
          let end = begin.map { stream.header($0).firstEvent } ?? stream.end
          part.skipped = end - min(end, divergence.event)
        }
      }
      add(part)
    }
  }
}
