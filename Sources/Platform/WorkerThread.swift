import CPlatform
import Glibc

/// A thread that runs one closure, optionally pinned to a core.
public final class WorkerThread: @unchecked Sendable {
  private var handle = pthread_t()

  /// - Parameters:
  ///   - name: at most 15 bytes, as `top` shows it.
  ///   - core: the only core that it may use; nil for any.
  ///   - handlesSignals: false blocks all signals of the thread, which then cannot be interrupted.
  public init(
    name: String, core: Int? = nil, handlesSignals: Bool = true, _ body: @escaping @Sendable () -> Void
  ) throws(SystemError) {
    let start = Unmanaged.passRetained(
      Start {
        nvmepf_name_thread(String(name.prefix(15)))
        if let core { nvmepf_pin_thread(Int32(core)) }
        if handlesSignals { WorkerThread.allowInterruptions() } else { WorkerThread.blockSignals() }
        body()
      })
    let error = pthread_create(
      &handle, nil,
      { argument in
        Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue().body()
        return nil
      }, start.toOpaque())
    guard error == 0 else {
      start.release()
      throw SystemError(
        code: error, remedy: error == EAGAIN ? "raise ulimit -u or the control group's pids.max" : nil)
    }
  }

  /// Run a closure on a detached thread; on the current one if no thread can be started.
  public static func runDetached(name: String, _ body: @escaping @Sendable () -> Void) {
    do throws(SystemError) { try WorkerThread(name: name, body).detach() } catch { body() }
  }

  /// Make a system call that blocks the thread fail with EINTR.
  public func interrupt() { pthread_kill(handle, SIGURG) }

  /// A signal without any other use here. The thread that created this one may have blocked it.
  private static func allowInterruptions() {
    _ = handlesInterruptions
    var set = sigset_t()
    sigemptyset(&set)
    sigaddset(&set, SIGURG)
    pthread_sigmask(SIG_UNBLOCK, &set, nil)
  }

  private static func blockSignals() {
    var all = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, nil)
  }

  /// A handler that does nothing; it only has to exist.
  private static let handlesInterruptions: Void = {
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigaction(SIGURG, &action, nil)
  }()

  /// Wait until the closure has returned.
  public func join() { pthread_join(handle, nil) }

  /// Nobody will join it: its resources are released when the closure returns, if ever.
  public func detach() { pthread_detach(handle) }

  private final class Start {
    let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
}
