import Glibc
import Platform
import Synchronization

/// A thread that drains rings into a trace until it is stopped.
public final class RecorderThread: Sendable {
  public let progress: RecordingProgress
  private let state: State
  private let thread: WorkerThread

  /// Shared by both threads.
  private final class State: @unchecked Sendable {
    let stopping = Atomic<Bool>(false)
    let isWorthKeeping = Atomic<Bool>(false)
    /// Owned by the thread until it ends.
    let writer: TraceWriter
    let wake: EventDescriptor?
    var summary: RecordingSummary?
    init(_ writer: TraceWriter, _ wake: EventDescriptor?) { (self.writer, self.wake) = (writer, wake) }
  }

  /// Start recording with `writer`, which then belongs to the thread.
  /// - Parameter wake: raised when there is something to write; without it the thread polls every millisecond.
  public init(_ writer: sending TraceWriter, wake: EventDescriptor? = nil) throws(TraceError) {
    progress = writer.progress
    state = State(writer, wake)
    // The program handles signals; exceeding a file size limit appears as a write error, not as SIGXFSZ.
    do throws(SystemError) {
      thread = try WorkerThread(name: "nvmepf-writer", handlesSignals: false) { [state] in RecorderThread.run(state) }
    } catch {
      _ = state.writer.finish(isWorthKeeping: false)
      throw TraceError(.system(error.code), "cannot start the recorder: \(error)")
    }
  }

  /// Write the remaining events and close the trace. Producers must have ended. Call once.
  /// - Parameter isWorthKeeping: see `TraceWriter.finish`.
  public func stop(isWorthKeeping: Bool = false) -> RecordingSummary {
    state.isWorthKeeping.store(isWorthKeeping, ordering: .relaxed)
    state.stopping.store(true, ordering: .releasing)
    state.wake?.raise()
    thread.join()
    return state.summary!
  }

  private static func run(_ state: State) {
    while !state.stopping.load(ordering: .acquiring) {
      if let wake = state.wake {
        wake.wait(atMostMs: 100)
        _ = wake.consume()
        state.writer.drain()
      } else if !state.writer.drain() {
        Backoff.sleep(ns: 1_000_000)
      }
    }
    state.summary = state.writer.finish(isWorthKeeping: state.isWorthKeeping.load(ordering: .relaxed))
  }
}
