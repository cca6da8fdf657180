import Chance
import Glibc
import NVMe
import Storage
import Target

/// The backend of one namespace, dispatched without an existential because every command uses it.
public enum NamespaceBackend: BitwiseCopyable {
  /// Completes everything and stores nothing, to measure the front end alone.
  case null
  /// Like null, with a service time.
  case slow(ServiceTimer)
  case memory(MemoryBackend)
  /// A file or a device.
  case storage(Unmanaged<StorageDevice>)
}

/// Blocks in memory. It does not own them.
public struct MemoryBackend: BitwiseCopyable {
  /// The namespace's bytes, initially zero.
  let base: UnsafeMutableRawPointer

  /// From this size on, memory is returned to the kernel instead of zeroed: zeroing would block the engine for longer
  /// than the page faults that follow. A smaller piece stays, so that no page faults follow.
  private static let zeroByUnmapping = NamespaceMemory.hugePageBytes

  /// Execute the request except for its transfer.
  /// - Parameter data: the host's data for a compare.
  func execute(_ request: IORequest, data: UnsafeMutableRawPointer?) -> Status {
    switch request.opcode {
    case .read, .write, .flush, .verify: break
    case .writeZeroes: zero(Int(request.byteOffset), Int(request.byteCount))
    case .compare:
      guard let data, memcmp(data, base + Int(request.byteOffset), Int(request.byteCount)) == 0 else {
        return .compareFailure
      }
    case .datasetManagement:
      for range in request.ranges {
        zero(Int(range.slba << request.blockShift), Int(UInt64(range.blocks) << request.blockShift))
      }
    case .copy:
      var target = base + Int(request.byteOffset)
      for range in request.ranges {
        let count = Int(UInt64(range.blocks) << request.blockShift)
        memmove(target, base + Int(range.slba << request.blockShift), count)
        target += count
      }
    case .reservationRegister, .reservationReport, .reservationAcquire, .reservationRelease: return .invalidOpcode
    }
    return .success
  }

  private func zero(_ offset: Int, _ count: Int) {
    guard count >= MemoryBackend.zeroByUnmapping else {
      memset(base + offset, 0, count)
      return
    }
    // Whole pages are returned to the kernel; anonymous memory then reads as zeros. The base is page aligned.
    let page = 4096
    let first = (offset + page - 1) & ~(page - 1)
    let last = (offset + count) & ~(page - 1)
    memset(base + offset, 0, first - offset)
    madvise(base + first, last - first, Int32(MADV_DONTNEED))
    memset(base + last, 0, offset + count - last)
  }
}

/// Draws the service time of each command.
public struct ServiceTimer: BitwiseCopyable {
  private let kind: Kind
  /// The generator's state, shared by all copies.
  private let random: UnsafeMutablePointer<SeededGenerator>

  private enum Kind: BitwiseCopyable {
    case constant(UInt64)
    case exponential(Double)
    case uniform(UInt64, UInt64)
  }

  /// - Parameter random: must outlive every copy.
  /// - Returns: nil for a backend without a service time.
  init?(_ time: ServiceTime, random: UnsafeMutablePointer<SeededGenerator>) {
    self.random = random
    switch time {
    case .none: return nil
    case .constant(let ns): kind = .constant(ns)
    case .exponential(let mean, let seed):
      kind = .exponential(Double(mean))
      random.pointee = SeededGenerator(seed: seed)
    case .uniform(let range, let seed):
      kind = .uniform(range.lowerBound, range.upperBound - range.lowerBound)
      random.pointee = SeededGenerator(seed: seed)
    }
  }

  /// Nanoseconds for the next command.
  func next() -> UInt64 {
    switch kind {
    case .constant(let ns): ns
    case .exponential(let mean): UInt64(-mean * log(1 - random.pointee.unit()))
    case .uniform(let least, let span): least &+ (random.pointee.next().multipliedFullWidth(by: span &+ 1).high)
    }
  }
}
