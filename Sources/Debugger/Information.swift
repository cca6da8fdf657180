import Text

/// What `info` can show.
struct InformationSubject: Sendable {
  let name: String
  var arguments = ""
  /// One line.
  let help: String

  static let ofEngine = [
    InformationSubject(name: "queues", help: "The queues, and how full they are."),
    InformationSubject(name: "queue", arguments: "N", help: "One queue, its last events and its commands."),
    InformationSubject(name: "commands", help: "The commands in flight, and what each waits for."),
    InformationSubject(name: "command", arguments: "[QID/]CID", help: "A command's entry, and where it is."),
    InformationSubject(name: "registers", help: "The controller's registers, field by field."),
    InformationSubject(name: "namespaces", help: "The namespaces."),
    InformationSubject(name: "interrupts", help: "What each completion queue announces, and when."),
    InformationSubject(name: "timers", help: "The timers that run."),
    InformationSubject(name: "memory", arguments: "ADDRESS LENGTH", help: "What the trace knows of host memory."),
    InformationSubject(name: "host", help: "What hosts wait for, and what they did wrong."),
    InformationSubject(name: "problems", help: "What went wrong in the whole recording; begin here."),
    breakpoints,
  ]

  static let ofKernel = [
    InformationSubject(name: "commands", help: "The commands in flight, with stage and age."),
    InformationSubject(name: "command", arguments: "[QID/]CID", help: "A command's entry, and where it is."),
    InformationSubject(name: "works", help: "What each CPU runs for the driver."),
    InformationSubject(name: "transfers", arguments: "[[QID/]CID]", help: "Transfers under way, or a command's."),
    InformationSubject(name: "queues", help: "The queues, as far as the trace tells."),
    InformationSubject(name: "interrupts", help: "What each completion queue has announced."),
    InformationSubject(name: "registers", help: "The registers, as far as the trace tells."),
    InformationSubject(name: "twin", help: "Our engine, given what the driver received."),
    InformationSubject(name: "problems", help: "What went wrong in the whole recording; begin here."),
    breakpoints,
  ]

  private static let breakpoints = InformationSubject(name: "breakpoints", help: "Their numbers and hits.")
}

extension Debugger {
  func inform(_ words: inout TypedWords) throws {
    guard let word = words.next() else {
      showEvent()
      return try showInformation("", &words)
    }
    let subject = try subject(word)
    guard subject == "breakpoints" else { return try showInformation(subject, &words) }
    try words.end()
    showBreakpoints()
  }

  /// The subject with this name, or an unambiguous beginning of one.
  private func subject(_ text: String) throws -> String {
    let names = type(of: self).subjects.map(\.name)
    if names.contains(text) { return text }
    let matches = names.filter { $0.hasPrefix(text) }
    guard matches.count != 1 else { return matches[0] }
    let word = text.printable(limit: 40)
    guard matches.isEmpty else { throw DebuggerError("'\(word)' may mean \(matches.joined(separator: ", "))") }
    let others = (InformationSubject.ofEngine + InformationSubject.ofKernel).map(\.name)
    throw DebuggerError(
      others.contains(text)
        ? "this trace tells nothing of \(word): info has \(names.joined(separator: ", "))"
        : "info knows no '\(word)'; see help info")
  }

  /// What `help info` lists.
  func helpOnInformation() {
    for subject in type(of: self).subjects {
      say("  " + (subject.name + " " + subject.arguments).padded(to: 22) + " " + subject.help)
    }
  }
}
