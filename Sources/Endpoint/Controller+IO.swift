import NVMe
import Target

extension Controller {
  /// Execute a fetched command, up to its completion.
  mutating func execute<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) {
    if commands[Int(index)].qid == .admin {
      executeAdmin(index, &port)
    } else {
      finish(index, executeIO(commands[Int(index)], &port))
    }
  }

  private mutating func executeIO<P: Port & ~Copyable>(_ command: Command, _ port: inout P) -> Status {
    let request: IORequest
    let mapped: Int
    do throws(Status) {
      request = try target.request(command.sqe, qid: command.qid)
      mapped = request.movesData ? try mapData(command.sqe, UInt32(request.transferBytes), command.qid, &port) : 0
    } catch {
      port.mapped(qid: command.qid, cid: command.sqe.cid, segments: 0, length: 0)
      return error
    }
    port.mapped(
      qid: command.qid, cid: command.sqe.cid, segments: mapped,
      length: UInt32(truncatingIfNeeded: request.transferBytes))
    if request.opcode == .write, !transfer(.fromHost, request, mapped, &port) { return .dataTransferError }
    let status = port.execute(request)
    if request.opcode == .read, status.isSuccess, !transfer(.toHost, request, mapped, &port) {
      return .dataTransferError
    }
    return status
  }

  private func transfer<P: Port & ~Copyable>(
    _ direction: Direction, _ request: IORequest, _ count: Int, _ port: inout P
  ) -> Bool {
    var offset: UInt64 = 0
    for index in 0..<count {
      guard port.transfer(direction, request, offset: offset, segments[index]) else { return false }
      offset += UInt64(segments[index].length)
    }
    port.transferred(direction, request)
    return true
  }
}
