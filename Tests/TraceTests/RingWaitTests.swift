@_spi(Places) import Events
import Platform
import Synchronization
import Testing

@testable import Trace

/// A producer that waits for room in its ring.
@Suite struct RingWaitTests {
  let scratch = Scratch()

  private final class Switch: Sendable { let isOn = Atomic(true) }

  @Test("The event of a wait comes after the event that waited, so that times never go back")
  func order() throws {
    let recording = try Recording(scratch("t.nvpt"))
    let ring = try recording.ring(.host, capacity: 128)
    let producing = Switch()
    let thread = try WorkerThread(name: "producer") {
      var producer = RingProducer(ring, whenFull: .wait)
      while producing.isOn.load(ordering: .relaxed) { producer.append(Record(time: Clock.ticks(), kind: .submit)) }
    }
    var consumer = RingConsumer(ring)
    var backoff = Backoff.writing
    var (waits, last, isInOrder) = (0, UInt64(0), true)
    while waits < 10 {
      let slots = try consumer.available()
      if slots.count < 128 {
        backoff.pause()
        continue
      }
      for record in slots {
        let isWait = record.event == .ringWait
        let begin = isWait ? record.time - Event.RingWait(record).span : record.time
        isInOrder = isInOrder && begin >= last
        (waits, last) = (waits + (isWait ? 1 : 0), record.time)
      }
      consumer.free(slots.count)
    }
    producing.isOn.store(false, ordering: .relaxed)
    RingConsumer.discard(ring)
    thread.join()
    #expect(isInOrder)
  }
}
