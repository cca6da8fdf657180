import NVMe

/// Events that wait for a request to carry them, and the types masked until their log page is read (Base 2.1, 5.1.2).
public struct AsynchronousEvents: Equatable, Sendable {
  /// Maximum outstanding requests.
  public static let requestsMax = 4
  /// Maximum pending events; further ones are discarded.
  public static let pendingMax = 8

  /// Oldest first.
  public package(set) var pending: [AsynchronousEvent] = []
  /// A bit for each event type that was reported and not yet cleared.
  public package(set) var masked: UInt8 = 0

  /// Add an event unless it is already waiting. If there is no room it is discarded: the log page that it points to has
  /// the details.
  public mutating func add(_ event: AsynchronousEvent) {
    guard !pending.contains(event), pending.count < AsynchronousEvents.pendingMax else { return }
    pending.append(event)
  }

  /// The next event to report; masks its type.
  public mutating func next() -> AsynchronousEvent? {
    guard let index = pending.firstIndex(where: { masked & 1 << $0.type == 0 }) else { return nil }
    let event = pending.remove(at: index)
    masked |= 1 << event.type
    return event
  }

  /// The host has read the log page: events of this type may be reported again.
  public mutating func clear(type: UInt8) { masked &= ~(1 << type) }
}

extension Target {
  /// Add an event, unless the host has disabled its kind (Base 2.1, 5.1.25.1.6).
  public mutating func add(_ event: AsynchronousEvent) {
    if event == .namespaceAttributeChanged, features.asynchronousEventConfiguration & 1 << 8 == 0 { return }
    if event == .temperatureThreshold, features.asynchronousEventConfiguration & 1 << 1 == 0 { return }
    events.add(event)
  }

  public mutating func nextEvent() -> AsynchronousEvent? { events.next() }
}
