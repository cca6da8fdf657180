/// What `why` is asked about.
enum WhyQuestion {
  /// A command: why it is not complete.
  case command(qid: UInt16, cid: UInt16)
  /// The command that waits longest.
  case oldest
  /// A vector: why it raises no interrupt.
  case interrupt(UInt16)
  /// Everybody: why nothing happens.
  case idle
}

extension Debugger {
  /// Without words the question is about the command of the event at the point, or else about everybody.
  func why(_ words: inout TypedWords) throws {
    try explain(question(&words))
  }

  private func question(_ words: inout TypedWords) throws -> WhyQuestion {
    let line = words
    let question: WhyQuestion
    switch words.next() {
    case nil where (try? command(&words)) == nil: question = .idle
    case "idle": question = .idle
    case "oldest": question = .oldest
    case "interrupt":
      guard let vector = words.number().flatMap(UInt16.init(exactly:)) else {
        throw DebuggerError("why interrupt needs a vector")
      }
      question = .interrupt(vector)
    default:
      words = line
      let (qid, cid) = try command(&words)
      question = .command(qid: qid, cid: cid)
    }
    try words.end()
    return question
  }
}
