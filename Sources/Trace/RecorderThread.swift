import CPlatform
import Glibc
import Synchronization

/// The thread that turns rings into a trace.
public final class RecorderThread: @unchecked Sendable {
  private let writer: TraceWriter
  private let directory: String
  private let stopping = Atomic<Bool>(false)
  private var lock = pthread_mutex_t()
  private var latest = TraceWriter.Progress()
  private var failure: TraceError?
  private var thread = pthread_t()

  private static let pauseNs = 1_000_000
  /// Pauses between two looks for new rings.
  private static let pausesPerLook = 20

  /// - Parameter directory: where rings appear.
  public init(_ writer: TraceWriter, directory: String) {
    self.writer = writer
    self.directory = directory
    pthread_mutex_init(&lock, nil)
    pthread_create(
      &thread, nil,
      { argument in
        nvmepf_name_thread("nvmepf-writer")
        Unmanaged<RecorderThread>.fromOpaque(argument!).takeRetainedValue().run()
        return nil
      }, Unmanaged.passRetained(self).toOpaque())
  }

  deinit { pthread_mutex_destroy(&lock) }

  private func run() {
    var pauses = 0
    while !stopping.load(ordering: .acquiring) {
      if pauses % RecorderThread.pausesPerLook == 0 { writer.addRings(in: directory) }
      pauses += 1
      writer.drain()
      publish()
      var pause = timespec(tv_sec: 0, tv_nsec: RecorderThread.pauseNs)
      nanosleep(&pause, nil)
    }
    writer.addRings(in: directory)
    // What it throws, the writer keeps as its error.
    try? writer.finish()
    publish()
  }

  private func publish() {
    pthread_mutex_lock(&lock)
    latest = writer.progress
    if failure == nil { failure = writer.error }
    pthread_mutex_unlock(&lock)
  }

  public var progress: TraceWriter.Progress {
    pthread_mutex_lock(&lock)
    defer { pthread_mutex_unlock(&lock) }
    return latest
  }

  /// Why the recording could not go on; nil as long as it does.
  public var error: TraceError? {
    pthread_mutex_lock(&lock)
    defer { pthread_mutex_unlock(&lock) }
    return failure
  }

  /// Write what is left and close the trace. The producers have finished.
  public func finish() throws(TraceError) {
    stopping.store(true, ordering: .releasing)
    pthread_join(thread, nil)
    if let failure { throw failure }
  }
}
