import Glibc

/// Something whose progress is shown to the user.
public protocol Watched: AnyObject {
  /// One line about the progress of the recording.
  /// - Parameter isEnd: it has ended.
  func progressLine(isEnd: Bool) -> String
  /// Why recording has stopped; returned once.
  func consumeTrouble() -> String?
  /// It holds nothing, and the previous trace was kept instead.
  var isDiscarded: Bool { get }
  /// End it and close the trace.
  func finish() throws
}

extension Watched {
  /// Do this while it is recorded, then close the trace, whatever happened.
  /// - Parameter body: returns an exit status.
  public func record(_ body: (Watch) throws -> Int32) -> (status: Int32, failure: (any Error)?) {
    let watch = Watch(self)
    var (status, failure): (Int32, (any Error)?) = (0, nil)
    do { status = try body(watch) } catch { failure = error }
    watch.end()
    do { try finish() } catch { failure = failure ?? error }
    return (status, failure)
  }
}

/// Shows the progress of a recording on a terminal, and reports its trouble immediately.
public struct Watch {
  private let watched: (any Watched)?
  private let text: String
  private let isTerminal = isatty(STDERR_FILENO) == 1

  public init(_ watched: any Watched) { (self.watched, text) = (watched, "") }

  /// There is no progress to show, only an activity.
  public init(_ text: String) { (watched, self.text) = (nil, text) }

  public func show() {
    if let trouble = watched?.consumeTrouble() {
      end()
      complain(trouble)
    }
    guard isTerminal else { return }
    showProgress(watched?.progressLine(isEnd: false) ?? text)
  }

  public func end() {
    if isTerminal { showProgress("") }
  }
}
