import Faults

/// A file of any bytes is a list of faults, each of which its own text describes, or a mistake in one line.
@_cdecl("fuzz_faults")
public func fuzzFaults(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  let text = String(decoding: UnsafeBufferPointer(start: data, count: count), as: UTF8.self)
  do throws(FaultError) {
    for fault in try Fault.parse(file: text) {
      precondition((try? Fault(fault.description)) == fault, "its text describes another fault")
    }
  } catch { precondition(!error.description.contains("\n"), "a mistake of several lines") }
  return 0
}
