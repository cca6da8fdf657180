import Glibc
import Platform
import Synchronization
import Trace

/// Writes a recording on a thread of its own, which sleeps until a chunk is complete.
final class ChunkWriter: Sendable {
  private let state: State
  private let thread: WorkerThread

  private final class State: @unchecked Sendable {
    let wake: EventDescriptor
    let isStopping = Atomic<Bool>(false)
    /// The thread's until it has ended.
    let writer: TraceWriter
    var summary: RecordingSummary?

    init(_ writer: TraceWriter, _ wake: EventDescriptor) {
      self.writer = writer
      self.wake = wake
    }
  }

  init(_ writer: sending TraceWriter) throws(SystemError) {
    let state = State(writer, try EventDescriptor())
    self.state = state
    thread = try WorkerThread(name: "nvmepf-writer", handlesSignals: false) { ChunkWriter.run(state) }
  }

  /// A chunk can be written.
  func wake() { state.wake.raise() }

  /// Write what is left and close the trace. The producer must have ended. To be called once.
  func finish() -> RecordingSummary {
    state.isStopping.store(true, ordering: .releasing)
    wake()
    thread.join()
    return state.summary!
  }

  private static func run(_ state: State) {
    var wait = pollfd(fd: state.wake.descriptor, events: Int16(POLLIN), revents: 0)
    while !state.isStopping.load(ordering: .acquiring) {
      poll(&wait, 1, -1)
      _ = state.wake.take()
      state.writer.drain()
    }
    state.summary = state.writer.finish()
  }
}
