import Events
import Trace

/// The events of a trace by their numbers, in either direction.
public protocol EventSequence: AnyObject {
  /// Number of the first event.
  var first: UInt64 { get }
  /// One past the last event.
  var end: UInt64 { get }
  /// Whether a visit that takes long should be given up.
  var isInterrupted: () -> Bool { get }

  /// The event with this number; valid until other chunks are loaded. Nil if it was lost, or does not exist.
  func event(_ number: UInt64) throws(TraceError) -> UnsafePointer<Record>?
  /// The stream that has the event which was asked for last.
  func id(of number: UInt64) -> StreamID
  /// Number of the first event after a time, in nanoseconds.
  func end(upTo ns: UInt64) throws(TraceError) -> UInt64
  /// Visit the events from this one on, until `isDone`.
  /// - Throws: `Interrupted`, or an error of the trace.
  func visit(from number: UInt64, _ isDone: (NumberedEvent) -> Bool) throws
  /// Visit the events before this one, the latest first, until `isDone`.
  /// - Throws: `Interrupted`, or an error of the trace.
  func visitBackward(before number: UInt64, _ isDone: (NumberedEvent) -> Bool) throws
}

extension EventSequence {
  /// - Throws: `Interrupted` if a visit should be given up.
  public func checkInterruption() throws {
    if isInterrupted() { throw Interrupted() }
  }
}

/// A visit was given up.
public struct Interrupted: Error {}

/// An event during a visit.
public struct NumberedEvent {
  public let number: UInt64
  /// Valid until the visit goes on.
  public let record: UnsafePointer<Record>
  public let id: StreamID
  /// Events of its stream were lost right before it.
  public let followsLoss: Bool

  /// An event that follows no loss, if not said otherwise.
  public init(number: UInt64, record: UnsafePointer<Record>, id: StreamID, followsLoss: Bool = false) {
    (self.number, self.record, self.id, self.followsLoss) = (number, record, id, followsLoss)
  }
}
