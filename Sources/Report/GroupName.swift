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
      "admin \(AdminOpcode(rawValue: opcode)?.name ?? "opcode \(opcode.hex(digits: 2))")"
    case .unknownOpcode: "unknown opcode"
    case .others: "others"
    }
  }
}
