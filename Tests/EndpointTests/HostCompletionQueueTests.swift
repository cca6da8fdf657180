import Chance
import TestSeed
import Testing

@testable import Device

@Suite("A completion queue that faults change")
struct HostCompletionQueueTests {
  /// The engine's view and the host's, as the port keeps them: whatever is dropped, held or doubled, the engine never
  /// sees more entries freed than it posted, and sees all of them freed once the host has freed everything.
  @Test("the engine's numbers fit the host's, whatever happens to completions")
  func translates() {
    var random = drawnNumbers("completions under faults")
    for _ in 0..<200 {
      let size = UInt32.random(in: 2...20, using: &random)
      var queue = HostCompletionQueue(size: size)
      var (posted, held): (UInt64, Int) = (0, 0)
      var engineFreed: UInt64 = 0
      var phases = [Bool](repeating: false, count: Int(size))
      var hostHead: UInt32 = 0
      var hostPhase = true
      for _ in 0..<500 {
        let engineRoom = UInt64(size) - 1 - (posted - engineFreed)
        switch Int.random(in: 0..<6, using: &random) {
        case 0 where engineRoom > 0:
          posted += 1
          queue.skip()
        case 1 where engineRoom > 0:
          posted += 1
          held += 1
        case 2 where held > 0 && queue.room > 0:
          held -= 1
          write(&queue, &phases, isPosted: true)
        case 3 where queue.room > 0 && queue.hasWrapped: write(&queue, &phases, isPosted: false)
        case 4 where engineRoom > 0:
          posted += 1
          if queue.room > 0 { write(&queue, &phases, isPosted: true) } else { held += 1 }
        default:
          // The host consumes what its phase tag shows, as far as it likes.
          for _ in 0..<UInt32.random(in: 0...size, using: &random) where phases[Int(hostHead)] == hostPhase {
            hostHead = hostHead + 1 == size ? 0 : hostHead + 1
            if hostHead == 0 { hostPhase.toggle() }
          }
          let isValid = queue.free(to: hostHead)
          #expect(isValid)
        }
        let step = (UInt64(queue.engineHead) + UInt64(size) - engineFreed % UInt64(size)) % UInt64(size)
        engineFreed += step
        #expect(engineFreed <= posted - UInt64(held))
      }
      while phases[Int(hostHead)] == hostPhase {
        hostHead = hostHead + 1 == size ? 0 : hostHead + 1
        if hostHead == 0 { hostPhase.toggle() }
      }
      let isValid = queue.free(to: hostHead)
      #expect(isValid && queue.room == size - 1)
      #expect(UInt64(queue.engineHead) == (posted - UInt64(held)) % UInt64(size))
      let beyond = queue.free(to: size)
      #expect(!beyond && queue.head == hostHead)
    }
  }

  private func write(_ queue: inout HostCompletionQueue, _ phases: inout [Bool], isPosted: Bool) {
    phases[Int(queue.tail)] = queue.phase
    queue.advance(isPosted: isPosted)
  }

  @Test("a head that frees entries which were not written is refused")
  func refuses() {
    var queue = HostCompletionQueue(size: 8)
    queue.advance(isPosted: true)
    queue.advance(isPosted: true)
    for value: UInt32 in [3, 7, 8, .max] {
      let isValid = queue.free(to: value)
      #expect(!isValid)
    }
    let isValid = queue.free(to: 2)
    #expect(isValid && queue.engineHead == 2)
  }
}
