import Glibc
import Host
import NVMe
import Text
import Trace

// The C interface of FioEngine/nvmepf_host.h, which documents the functions.

/// `nvmepf_host` points to this.
private func controller(_ host: UnsafeRawPointer) -> HostController {
  Unmanaged<HostController>.fromOpaque(host).takeUnretainedValue()
}

/// `nvmepf_queue`: a queue pair and the data of its namespace needed for a submission.
struct QueueHandle: ~Copyable {
  var pair: QueuePair
  let host: Unmanaged<HostController>
  let nsid: UInt32
  let blockShift: UInt8
  let bytes: UInt64
  let maxTransfer: UInt32
}

private func tell(_ line: String, _ text: UnsafeMutablePointer<CChar>?, _ size: Int) {
  guard let text, size > 0 else { return }
  // The program may print it on a terminal.
  _ = line.printable().withCString { strncpy(text, $0, size - 1) }
  text[size - 1] = 0
}

@_cdecl("nvmepf_host_abi")
public func hostABI() -> UInt32 { 2 }

@_cdecl("nvmepf_host_open")
public func hostOpen(
  _ path: UnsafePointer<CChar>, _ error: UnsafeMutablePointer<CChar>?, _ errorSize: Int
) -> UnsafeMutableRawPointer? {
  do throws(HostError) {
    let controller = try HostController(
      path: String(cString: path), recording: .fromEnvironment(), timeoutNs: HostController.timeoutNsFromEnvironment())
    return Unmanaged.passRetained(controller).toOpaque()
  } catch let failure {
    tell(failure.description, error, errorSize)
    return nil
  }
}

@_cdecl("nvmepf_host_close")
public func hostClose(_ host: UnsafeMutableRawPointer) {
  // A disconnected controller has nothing to shut down.
  try? Unmanaged<HostController>.fromOpaque(host).takeRetainedValue().shutDown()
}

@_cdecl("nvmepf_host_size")
public func hostSize(_ host: UnsafeRawPointer) -> UInt64 { controller(host).namespace.bytes }

@_cdecl("nvmepf_host_block_size")
public func hostBlockSize(_ host: UnsafeRawPointer) -> UInt32 {
  1 << UInt32(controller(host).namespace.blockShift)
}

@_cdecl("nvmepf_host_max_transfer")
public func hostMaxTransfer(_ host: UnsafeRawPointer) -> UInt32 {
  UInt32(controller(host).maxTransferBytes)
}

@_cdecl("nvmepf_host_max_queue_entries")
public func hostMaxQueueEntries(_ host: UnsafeRawPointer) -> UInt32 {
  controller(host).capabilities.queueEntriesMax
}

@_cdecl("nvmepf_host_can_trim")
public func hostCanTrim(_ host: UnsafeRawPointer) -> Int32 { controller(host).canDeallocate ? 1 : 0 }

@_cdecl("nvmepf_host_allocate")
public func hostAllocate(_ host: UnsafeMutableRawPointer, _ bytes: Int) -> UnsafeMutableRawPointer? {
  guard bytes > 0 else { return nil }
  return try? controller(host).share(bytes).base
}

@_cdecl("nvmepf_host_free")
public func hostFree(_ host: UnsafeMutableRawPointer, _ memory: UnsafeMutableRawPointer, _ bytes: Int) {
  // A disconnected controller holds no memory.
  try? controller(host).unshare(UInt64(UInt(bitPattern: memory)))
}

@_cdecl("nvmepf_queue_open")
public func queueOpen(
  _ host: UnsafeMutableRawPointer, _ depth: UInt32, _ threads: UInt32, _ error: UnsafeMutablePointer<CChar>?,
  _ errorSize: Int
) -> UnsafeMutableRawPointer? {
  let controller = controller(host)
  let sleeps = HostController.needsSleep(threads: Int(threads))
  let queue = UnsafeMutablePointer<QueueHandle>.allocate(capacity: 1)
  do throws(HostError) {
    queue.initialize(
      to: QueueHandle(
        pair: try controller.makeQueuePair(depth: Int(depth), sleeps: sleeps), host: Unmanaged.passRetained(controller),
        nsid: controller.namespace.nsid, blockShift: controller.namespace.blockShift,
        bytes: controller.namespace.bytes, maxTransfer: UInt32(controller.maxTransferBytes)))
    return UnsafeMutableRawPointer(queue)
  } catch let failure {
    queue.deallocate()
    tell(failure.description, error, errorSize)
    return nil
  }
}

@_cdecl("nvmepf_queue_close")
public func queueClose(_ pointer: UnsafeMutableRawPointer) {
  let queue = pointer.assumingMemoryBound(to: QueueHandle.self)
  let handle = queue.move()
  queue.deallocate()
  let host = handle.host
  let pair = handle.pair
  close(pair, of: host.takeUnretainedValue())
  host.release()
}

private func close(_ pair: consuming QueuePair, of controller: HostController) {
  // A disconnected controller no longer uses any buffer.
  try? controller.delete(pair)
}

@_cdecl("nvmepf_queue_submit")
public func queueSubmit(
  _ pointer: UnsafeMutableRawPointer, _ operation: Int32, _ offset: UInt64, _ buffer: UnsafeMutableRawPointer?,
  _ length: UInt32, _ tag: UnsafeMutableRawPointer?
) -> Int32 {
  let queue = pointer.assumingMemoryBound(to: QueueHandle.self)
  let opcode: IOOpcode
  let blockMask = UInt64(1) << queue.pointee.blockShift - 1
  switch operation {
  case 0: opcode = .read
  case 1: opcode = .write
  case 2:
    let sqe = SubmissionEntry(
      opcode: IOOpcode.flush.rawValue, cid: CommandID(0), nsid: queue.pointee.nsid)
    return queue.pointee.pair.submit(sqe, tag: tag) ? 0 : -EAGAIN
  case 3:
    guard length > 0, offset <= queue.pointee.bytes, UInt64(length) <= queue.pointee.bytes - offset,
      (offset | UInt64(length)) & blockMask == 0
    else { return -EINVAL }
    let isSubmitted = queue.pointee.pair.submitDeallocate(
      nsid: queue.pointee.nsid, slba: offset >> queue.pointee.blockShift,
      blocks: length >> UInt32(queue.pointee.blockShift), tag: tag)
    return isSubmitted ? 0 : -EAGAIN
  default: return -EINVAL
  }
  guard length > 0, length <= queue.pointee.maxTransfer, offset <= queue.pointee.bytes,
    UInt64(length) <= queue.pointee.bytes - offset, (offset | UInt64(length)) & blockMask == 0, let buffer,
    UInt(bitPattern: buffer) & 3 == 0
  else { return -EINVAL }
  var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0), nsid: queue.pointee.nsid)
  sqe.slba = offset >> queue.pointee.blockShift
  sqe.cdw12 = length >> queue.pointee.blockShift - 1
  return queue.pointee.pair.submit(sqe, buffer: buffer, length: Int(length), tag: tag) ? 0 : -EAGAIN
}

@_cdecl("nvmepf_queue_ring")
public func queueRing(_ pointer: UnsafeMutableRawPointer) {
  pointer.assumingMemoryBound(to: QueueHandle.self).pointee.pair.ring()
}

/// `struct nvmepf_completion`.
struct Completion {
  var tag: UnsafeMutableRawPointer?
  var status: UInt16
}

@_cdecl("nvmepf_queue_reap")
public func queueReap(
  _ pointer: UnsafeMutableRawPointer, _ completions: UnsafeMutableRawPointer, _ min: UInt32, _ max: UInt32,
  _ timeoutNs: UInt64
) -> Int32 {
  let queue = pointer.assumingMemoryBound(to: QueueHandle.self)
  let target = completions.assumingMemoryBound(to: Completion.self)
  var count = 0
  var polls: UInt64 = 0
  var end: UInt64 = 0
  while true {
    _ = queue.pointee.pair.reap(Int(max) - count) { cqe, tag in
      target[count] = Completion(tag: tag, status: cqe.status.rawValue)
      count += 1
    }
    if count >= Int(min) { return Int32(count) }
    polls += 1
    // The clock is read rarely, since reading it costs as much as a command.
    guard polls & 0xff == 0 else { continue }
    let now = HostController.nowNs()
    if end == 0 { end = now.addingReportingOverflow(timeoutNs).overflow ? .max : now + timeoutNs }
    if now >= end { return Int32(count) }
    let failure = queue.pointee.host._withUnsafeGuaranteedRef { wait(&queue.pointee.pair, now, end, $0) }
    if failure != 0 { return failure }
  }
}

/// - Returns: 0 or -errno.
@inline(never)
private func wait(_ pair: inout QueuePair, _ now: UInt64, _ end: UInt64, _ controller: HostController) -> Int32 {
  do throws(HostError) {
    try pair.wait(now: now, until: end, on: controller)
    return 0
  } catch { return error.kind == .late ? -ETIMEDOUT : -EIO }
}

@_cdecl("nvmepf_queue_outstanding")
public func queueOutstanding(
  _ pointer: UnsafeRawPointer, _ text: UnsafeMutablePointer<CChar>?, _ size: Int
) {
  let queue = UnsafeMutableRawPointer(mutating: pointer).assumingMemoryBound(to: QueueHandle.self)
  tell(queue.pointee.pair.lateCommands(HostController.nowNs()), text, size)
}
