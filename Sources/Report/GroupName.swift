import Analysis
import NVMe
import Text

extension GroupKey {
  /// As in a table's heading and in JSON.
  var name: String {
    switch self {
    case .ioQueue(let qid): "queue \(qid)"
    case .adminQueue: "admin queue"
    case .ioOpcode(let opcode): IOOpcode(rawValue: opcode)?.name ?? "opcode \(opcode.hex(digits: 2))"
    case .adminOpcode(let opcode):
      "admin \(AdminOpcode(rawValue: opcode).map(name) ?? "opcode \(opcode.hex(digits: 2))")"
    case .unknownOpcode: "unknown opcode"
    case .others: "others"
    }
  }

  private func name(_ opcode: AdminOpcode) -> String {
    switch opcode {
    case .deleteIOSubmissionQueue: "delete-io-submission-queue"
    case .createIOSubmissionQueue: "create-io-submission-queue"
    case .getLogPage: "get-log-page"
    case .deleteIOCompletionQueue: "delete-io-completion-queue"
    case .createIOCompletionQueue: "create-io-completion-queue"
    case .identify: "identify"
    case .abort: "abort"
    case .setFeatures: "set-features"
    case .getFeatures: "get-features"
    case .asynchronousEventRequest: "asynchronous-event-request"
    case .keepAlive: "keep-alive"
    }
  }
}
