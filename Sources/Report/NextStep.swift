import Analysis
import Text

/// What to look at after a report.
enum NextStep {
  /// "Next: nvmepf report --slowest 3 FILE, for what happened to the slowest commands."
  static func sentence(_ summary: Summary, _ path: String) -> String {
    let file = path.shellWord
    if let command = summary.hung {
      return
        "Next: nvmepf dump --qid \(command.qid) --cid \(command.cid) \(file) | tail, for the last events of that command."
    }
    if !summary.failures.isEmpty { return "Next: nvmepf dump --failed \(file), for the events of failed commands." }
    if !summary.hostBehaviour.isEmpty || summary.interrupted > 0 || summary.io.commands == 0 {
      return "Next: nvmepf dump \(file), for all events in order."
    }
    let controller: String =
      switch summary.subject {
      case .controller(let number): "--controller \(number) "
      case .endpoint: ""
      }
    return "Next: nvmepf report --slowest 3 \(controller)\(file), for what happened to the slowest commands."
  }
}

extension String {
  /// As a shell takes it for one word.
  fileprivate var shellWord: String {
    let isPlain =
      !isEmpty
      && unicodeScalars.allSatisfy {
        $0.isASCII && ($0.properties.isAlphabetic || "0123456789._/-+:@%,=".unicodeScalars.contains($0))
      }
    return isPlain ? (hasPrefix("-") ? "./" + self : self) : "'" + printable().replacing("'", with: "'\\''") + "'"
  }
}
