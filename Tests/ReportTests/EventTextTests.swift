@_spi(Places) import Events
import Foundation
import NVMe
import Testing
import Text

@testable import Report

/// An event with its tail, as a reader gives it.
private func withEvent<T>(_ record: Record, tail: [UInt8] = [], _ body: (UnsafePointer<Record>) throws -> T) rethrows
  -> T
{
  let slots = UnsafeMutablePointer<Record>.allocate(capacity: 1 + Record.slots(tail.count))
  defer { slots.deallocate() }
  slots.initialize(to: record)
  slots.pointee.tail = UInt16(Record.slots(tail.count))
  tail.withUnsafeBytes { if let base = $0.baseAddress { memcpy(slots + 1, base, tail.count) } }
  return try body(slots)
}

private func text(_ record: Record, tail: [UInt8] = [], _ source: Source = .engine, _ form: EventText.Form = .line)
  -> String
{
  withEvent(record, tail: tail) {
    var text = EventText(form)
    text.append($0, source: source, stream: 1)
    return text.buffer.text
  }
}

/// What stands behind the raw values of an event's line.
private func meaning(_ record: Record, tail: [UInt8] = []) -> String {
  text(record, tail: tail).components(separatedBy: " # ").dropFirst().joined().trimmingCharacters(in: .newlines)
}

private func entry(_ opcode: UInt8, qid: UInt16 = 1, _ change: (inout SubmissionEntry) -> Void = { _ in }) -> String {
  var sqe = SubmissionEntry(opcode: opcode, cid: CommandID(7))
  change(&sqe)
  let bytes = withUnsafeBytes(of: sqe) { Array($0) }
  return meaning(Record(kind: .fetch, qid: qid, cid: 7), tail: bytes)
}

@Suite("Events as text")
struct EventTextTests {
  @Test("a line has the time, the stream, the raw values and then what they mean")
  func line() {
    let record = Record(time: 1234, kind: .doorbell, qid: 3, a: 17, b: 35)
    #expect(text(record) == "         1234 engine/1 doorbell flags=0x0 qid=3 value=17 poll=35 # submission-tail\n")
    #expect(
      text(Record(time: .max, kind: .time, a: .max)) == "18446744073709551615 engine/1 time ms=18446744073709551615\n")
  }

  @Test("an object has the raw values, and what they mean in an object of its own")
  func object() throws {
    let text = text(Record(time: 5, kind: .completion, qid: 1, cid: 7, b: 0x0100_0007 << 32 | 1 << 16), .host, .json)
    let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    #expect(object["event"] as? String == "completion")
    #expect(object["source"] as? String == "host")
    #expect(object["dw3"] as? Int == 0x0100_0007)
    let meaning = try #require(object["meaning"] as? [String: Any])
    #expect(meaning["status"] as? String == "lba-out-of-range")
    #expect(meaning["code"] as? Int == 0x80)
  }

  @Test("every kind is valid JSON, whatever its values", arguments: EventKind.allCases)
  func hostile(kind: EventKind) throws {
    for value in [0, UInt64.max, 0x0123_4567_89ab_cdef] {
      let low = UInt16(truncatingIfNeeded: value)
      let record = Record(
        time: value, kind: kind, flags: UInt8(truncatingIfNeeded: value), qid: low, cid: low, a: value, b: value)
      for bytes in [0, 64] {
        let tail = [UInt8](repeating: UInt8(truncatingIfNeeded: value), count: bytes)
        let object = try JSONSerialization.jsonObject(with: Data(text(record, tail: tail, .engine, .json).utf8))
        #expect(object is [String: Any])
      }
    }
  }

  @Test("a register has its name and fields")
  func registers() {
    func write(_ offset: UInt64, _ value: UInt64, width: UInt8 = 4) -> String {
      meaning(Record(kind: .registerWrite, flags: width, a: offset, b: value))
    }
    #expect(write(0x14, 0x46_0001) == "register CC, EN 1, CSS 0, MPS 0, AMS 0, SHN 0, IOSQES 6, IOCQES 4, CRIME 0")
    #expect(write(0x1c, 9) == "register CSTS, RDY 1, CFS 0, SHST 2, NSSRO 0, PP 0")
    #expect(write(0x24, 0x1f_003f) == "register AQA, ASQS 63, ACQS 31")
    // Half of a register.
    #expect(write(0x2c, 1) == "register ASQ")
    #expect(write(0x1008, 1) == "doorbells")
    #expect(write(0xf00, 1) == "")
  }

  @Test("an I/O command has its name, blocks and kind of data pointer")
  func ioCommands() {
    #expect(
      entry(2) {
        ($0.nsid, $0.slba, $0.cdw12, $0.prp1) = (1, 1024, 7, 0x1000)
      } == "opcode read, nsid 1, slba 1024, blocks 8, data prp")
    #expect(
      entry(1) {
        ($0.nsid, $0.cdw12) = (2, 1 << 30)
        $0.cdw0 |= 1 << 14 | 2 << 8
        $0.sgl1 = SGLDescriptor(.dataBlock, address: 0x1000, length: 512)
      } == "opcode write, nsid 2, slba 0, blocks 1, force-unit-access, fuse second, data sgl-data-block, length 512")
    #expect(entry(9) { ($0.cdw10, $0.cdw11) = (3, 4) } == "opcode dataset-management, ranges 4, deallocate")
    #expect(entry(0xc5) == "opcode 0xc5")
  }

  @Test("an admin command has the names of what it asks for")
  func adminCommands() {
    #expect(entry(6, qid: 0) { $0.cdw10 = 1 } == "opcode identify, structure controller")
    #expect(entry(2, qid: 0) { $0.cdw10 = 2 | 127 << 16 } == "opcode get-log-page, log-page smart, bytes 512")
    #expect(
      entry(9, qid: 0) { ($0.cdw10, $0.cdw11) = (7, 0x3_0003) }
        == "opcode set-features, feature number-of-queues, value 0x30003")
    #expect(
      entry(1, qid: 0) { ($0.cdw10, $0.cdw11) = (2 | 31 << 16, 1 | 2 << 16) }
        == "opcode create-io-submission-queue, queue 2, entries 32, contiguous, completion-queue 2")
    #expect(entry(0x80, qid: 0) { $0.nsid = 1 } == "opcode format-nvm, nsid 1")
  }

  @Test("a completion has its status, and whether a retry is of use")
  func completions() {
    func completion(_ status: UInt64) -> String {
      meaning(Record(kind: .completion, qid: 1, cid: 7, b: 5 | 1 << 16 | (7 | 1 << 16 | status << 17) << 32))
    }
    #expect(completion(0) == "sqid 1, sqhd 5, phase 1, status success")
    #expect(completion(0x4080) == "sqid 1, sqhd 5, phase 1, status lba-out-of-range, code 0x80, do-not-retry")
    #expect(completion(0x7c1) == "sqid 1, sqhd 5, phase 1, status 0x7c1, code 0x7c1")
  }

  @Test("flags and choices have the names of the event table")
  func flags() {
    #expect(meaning(Record(kind: .segment, flags: 3, qid: 1)) == "from-host, failed")
    #expect(meaning(Record(kind: .segment, qid: 1)) == "to-host")
    #expect(meaning(Record(kind: .reset, flags: 2)) == "reason host-gone")
    #expect(meaning(Record(kind: .submit, flags: 6)) == "opcode identify")
    #expect(meaning(Record(kind: .submit, flags: 1, qid: 2)) == "opcode write")
  }
}

@Suite("Names of the specification")
struct NameTests {
  @Test("a status has one name, and the name leads back to it")
  func statuses() {
    var names = Set<String>()
    for code in UInt16(0)..<0x800 {
      guard let name = NVMeName.status(code) else { continue }
      #expect(names.insert(name).inserted)
      #expect(NVMeName.status(named: name) == code)
    }
    #expect(names.count > 80)
    #expect(Status.lbaOutOfRange.name == "lba-out-of-range")
    #expect(Status(rawValue: 0x4000 | 0x281).name == "unrecovered-read-error")
    #expect(NVMeName.status(named: "") == nil)
  }

  @Test("an opcode has one name of its kind of queue, and the name leads back to it")
  func opcodes() {
    for isAdmin in [false, true] {
      for opcode in UInt8.min...UInt8.max {
        guard let name = NVMeName.opcode(opcode, isAdmin: isAdmin) else { continue }
        #expect(NVMeName.opcode(name, isAdmin: isAdmin) == opcode)
      }
    }
    for opcode in IOOpcode.allCases { #expect(NVMeName.opcode(opcode.rawValue, isAdmin: false) == opcode.name) }
    for opcode in AdminOpcode.allCases { #expect(NVMeName.opcode(opcode.rawValue, isAdmin: true) == opcode.name) }
  }
}
