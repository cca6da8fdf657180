import Text

extension Debugger {
  // MARK: The list

  func addBreakpoint(_ words: inout TypedWords, isTemporary: Bool = false, isWatch: Bool = false) throws {
    var text = words.rest
    guard !text.isEmpty else { throw DebuggerError("an expression is needed, as in break event == completion") }
    if isWatch, !text.hasSuffix(" changes") { text += " changes" }
    guard breakpoints.count < 64 else { throw DebuggerError("there are 64 breakpoints: delete one") }
    var breakpoint = try Breakpoint(lastBreakpoint + 1, text, in: self)
    breakpoint.isTemporary = isTemporary
    lastBreakpoint += 1
    breakpoints.append(breakpoint)
    if case .commands(let points) = breakpoint.kind {
      return say(
        "breakpoint \(breakpoint.number): \(Quantity.count(points.count, "command meets", "commands meet")) it")
    }
    say("breakpoint \(breakpoint.number)" + (isTemporary ? ", once" : ""))
  }

  func deleteBreakpoints(_ words: inout TypedWords) throws {
    guard !words.isEmpty else {
      breakpoints = []
      return
    }
    let place = try breakpoint(&words)
    try words.end()
    breakpoints.remove(at: place)
  }

  func ignoreBreakpoint(_ words: inout TypedWords) throws {
    let place = try breakpoint(&words)
    guard let count = words.number() else { throw DebuggerError("ignore needs a breakpoint and a count") }
    try words.end()
    breakpoints[place].ignored = count
    say("breakpoint \(breakpoints[place].number) is passed over \(Quantity.count(count, "time"))")
  }

  func restrictBreakpoint(_ words: inout TypedWords) throws {
    let place = try breakpoint(&words)
    let condition = words.rest
    try breakpoints[place].restrict(to: condition.isEmpty ? nil : condition, in: self)
    say(
      "breakpoint \(breakpoints[place].number)" + (condition.isEmpty ? " has no further condition" : " stops only then")
    )
  }

  private func breakpoint(_ words: inout TypedWords) throws -> Int {
    guard let number = words.number(), let place = breakpoints.firstIndex(where: { UInt64($0.number) == number }) else {
      let numbers = breakpoints.map { "\($0.number)" }.joined(separator: ", ")
      throw DebuggerError(
        numbers.isEmpty ? "there are no breakpoints" : "a breakpoint's number is needed: \(numbers)")
    }
    return place
  }

  func showBreakpoints() {
    guard !breakpoints.isEmpty else { return say("there are no breakpoints") }
    for breakpoint in breakpoints {
      let notes = [
        breakpoint.condition.map { "if \($0)" }, breakpoint.isTemporary ? "temporary" : nil,
        breakpoint.ignored > 0 ? "ignored \(breakpoint.ignored) times" : nil,
        breakpoint.hits > 0 ? Quantity.count(breakpoint.hits, "hit") : nil,
      ].compactMap { $0 }
      tell("\(breakpoint.number)  ", breakpoint.text.printable() + notes.map { "; \($0)" }.joined())
    }
  }

  // MARK: Continue

  func `continue`(_ words: inout TypedWords, _ direction: Direction) throws {
    var left = words.number() ?? 1
    try words.end()
    guard left > 0 else { throw DebuggerError("the number must be at least 1") }
    switch direction {
    case .forward:
      guard point < end else { return say("the recording ends here") }
      try continueForward(&left)
    case .backward:
      guard point > begin else { return say("the recording begins here") }
      try continueBackward(&left)
    }
  }

  private func continueForward(_ left: inout UInt64) throws {
    var from = point
    while from < end, let found = try search(.forward, from: from) {
      if let stop = wanted(found.hits, &left) { return stopAt(stop) }
      if let divergence = found.divergence {
        say("the replay diverges:")
        for line in divergence.text.split(separator: "\n") { say("  \(line)") }
        return move(to: divergence.point)
      }
      from = found.next
      try sequence.checkInterruption()
    }
    say("the recording ends")
    move(to: end)
  }

  private func continueBackward(_ left: inout UInt64) throws {
    var upTo = point - 1
    while upTo >= begin, let found = try search(.backward, from: upTo) {
      if let stop = wanted(found.hits.reversed(), &left) { return stopAt(stop) }
      upTo = found.next
      try sequence.checkInterruption()
    }
    say("the recording begins")
    move(to: begin)
  }

  /// The hit to stop at.
  /// - Parameter left: how many hits it takes that are not ignored.
  private func wanted(_ hits: [BreakpointSearch.Hit], _ left: inout UInt64) -> BreakpointSearch.Hit? {
    for hit in hits {
      guard breakpoints[hit.index].ignored == 0 else {
        breakpoints[hit.index].ignored -= 1
        continue
      }
      left -= 1
      if left == 0 { return hit }
      breakpoints[hit.index].hits += 1
    }
    return nil
  }

  private func stopAt(_ hit: BreakpointSearch.Hit) {
    breakpoints[hit.index].hits += 1
    tell("breakpoint \(breakpoints[hit.index].number): ", breakpoints[hit.index].text.printable())
    if breakpoints[hit.index].isTemporary { breakpoints.remove(at: hit.index) }
    move(to: hit.point)
  }
}
