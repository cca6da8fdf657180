import NVMe
import Trace

/// The commands of a host's driver and those of the target that it drove, recorded apart and found again in each other.
public struct HostMatch {
  /// A command as one side saw it.
  private struct Sight {
    /// Submission or fetch, and completion or its posting, nanoseconds of its own trace; 0 where that is not there.
    var begin: UInt64
    var end: UInt64 = 0
    let cid: UInt16
    let opcode: UInt8
    let slba: UInt64

    /// This one being the host's, which may not tell the place.
    func isSame(_ other: Sight) -> Bool {
      cid == other.cid && opcode == other.opcode && (slba == other.slba || slba == 0)
    }
  }

  public let fit: ClockFit
  /// The controller of the target, and the host's instance that drives it.
  public let controller: UInt16
  public let instance: UInt16

  private static let commandsMax = 1 << 20
  private static let shiftMax = 1 << 14

  /// - Returns: nil where the two have no commands in common.
  public init?(host: TraceReader, target: TraceReader) throws(TraceError) {
    var best: (fit: ClockFit, controller: UInt16, instance: UInt16)?
    let hosts = try HostMatch.sights(host, isHost: true)
    let targets = try HostMatch.sights(target, isHost: false)
    for (instance, driven) in hosts {
      for (controller, served) in targets {
        var bounds = ClockFit.Bounds()
        var commands = 0
        for (qid, submitted) in driven {
          if let fetched = served[qid] { commands += HostMatch.match(submitted, fetched, &bounds) }
        }
        guard commands >= 4, commands > best?.fit.commands ?? 0, let fit = ClockFit(bounds, commands: commands) else {
          continue
        }
        best = (fit, controller, instance)
      }
    }
    guard let best else { return nil }
    (fit, controller, instance) = best
  }

  /// By controller or instance, by queue: commands in the order in which they were submitted or fetched, which is the same.
  private static func sights(_ reader: TraceReader, isHost: Bool) throws(TraceError) -> [UInt16: [UInt16: [Sight]]] {
    var origins: [UInt16: UInt16] = [:]
    var sights: [UInt16: [UInt16: [Sight]]] = [:]
    var last: [UInt64: Int] = [:]
    var count = 0
    var events = try MergedEvents(reader)
    while let (record, id) = try events.next() {
      guard id.source == .kernel else { continue }
      let event = record.pointee
      if event.event == .origin {
        origins[id.stream] = (event.flags & 1 != 0) == isHost ? event.cid : nil
        continue
      }
      guard let owner = origins[id.stream], count < commandsMax else { continue }
      let key = UInt64(owner) << 32 | UInt64(event.qid) << 16 | UInt64(event.cid)
      switch event.event {
      case .submit where isHost:
        last[key] = sights[owner]?[event.qid]?.count ?? 0
        sights[owner, default: [:]][event.qid, default: []].append(
          Sight(begin: event.time, cid: event.cid, opcode: event.flags, slba: event.a))
        count += 1
      case .fetch where !isHost && event.tail == 2:
        let sqe = UnsafeRawPointer(record + 1).loadUnaligned(as: SubmissionEntry.self)
        last[key] = sights[owner]?[event.qid]?.count ?? 0
        sights[owner, default: [:]][event.qid, default: []].append(
          Sight(
            begin: event.time - min(UInt64(event.bLow), event.time), cid: event.cid, opcode: sqe.opcode,
            slba: event.qid == 0 ? 0 : sqe.slba))
        count += 1
      case .completion:
        if let index = last.removeValue(forKey: key) { sights[owner]![event.qid]![index].end = event.time }
      default: break
      }
    }
    return sights
  }

  /// Find where the one list lies in the other, and take the bounds of the commands that they share.
  private static func match(_ submitted: [Sight], _ fetched: [Sight], _ bounds: inout ClockFit.Bounds) -> Int {
    var best: (shift: Int, count: Int) = (0, 0)
    let reach = min(max(submitted.count, fetched.count), shiftMax)
    for shift in -reach...reach {
      // A few are enough to see that it is not this one.
      var (count, misses) = (0, 0)
      var index = max(0, -shift)
      while index < submitted.count, index + shift < fetched.count, misses <= 8 + count / 8 {
        if submitted[index].isSame(fetched[index + shift]) { count += 1 } else { misses += 1 }
        index += 1
      }
      if count > best.count { best = (shift, count) }
    }
    guard best.count > 0 else { return 0 }
    for index in submitted.indices where fetched.indices.contains(index + best.shift) {
      let (host, target) = (submitted[index], fetched[index + best.shift])
      guard host.isSame(target) else { continue }
      bounds.upper.append((Double(host.begin), Double(target.begin) - Double(host.begin)))
      if host.end != 0, target.end != 0 {
        bounds.lower.append((Double(host.end), Double(target.end) - Double(host.end)))
      }
    }
    return best.count
  }
}
