import ArgumentParser
import Foundation
import Probe

extension ProbeGroup: ExpressibleByArgument {}

/// Options of `record --kernel`.
struct KernelOptions: ParsableArguments {
  @Flag(help: "Record this kernel's NVMe target and host driver, if loaded")
  var kernel = false

  @Flag(help: "With --kernel: serve and record the endpoint too, in the same trace")
  var engine = false

  @Option(help: ArgumentHelp("With --kernel: record only this queue", valueName: "number"))
  var qid: UInt16?

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "With --kernel: record only these groups of probes (default: all but block)",
      valueName: "group"))
  var events: [ProbeGroup] = []

  @Option(help: ArgumentHelp("With --kernel: size of each CPU's ring buffer, a power of two", valueName: "bytes"))
  var kernelBuffer: ByteCount?

  @Option(help: "With --kernel: attach with fentry, or kprobe if unavailable; or with kprobe only")
  var attach = Attach.fentry

  enum Attach: String, CaseIterable, ExpressibleByArgument {
    case fentry, kprobe
  }

  @Option(
    help: ArgumentHelp(
      "With --kernel and a COMMAND: first run it alternately without and with probes, this many pairs, and print the probes' cost",
      valueName: "pairs"))
  var measureOverhead: Int?

  func validate() throws {
    try require(
      measureOverhead.map { kernel && $0 >= 2 } ?? true, "--measure-overhead needs --kernel and at least 2 pairs")
    try require(
      !engine || measureOverhead == nil,
      "--measure-overhead and --engine exclude each other: the engine's cost is not the probes'")
    try require(
      kernel || (!engine && qid == nil && events.isEmpty && kernelBuffer == nil),
      "--engine, --qid, --events and --kernel-buffer need --kernel")
    let page = UInt64(getpagesize())
    let buffer = kernelBuffer?.bytes ?? page
    try require(
      (page...1 << 30).contains(buffer) && buffer.nonzeroBitCount == 1,
      "--kernel-buffer must be a power of two from \(page >> 10) KiB to 1 GiB")
  }

  var probes: Probes.Options {
    var options = Probes.Options()
    options.groups = events.isEmpty ? Set(ProbeGroup.allCases).subtracting([.block]) : Set(events)
    options.qid = qid
    options.onlyKprobes = attach == .kprobe
    options.bufferBytes = kernelBuffer.map { Int($0.bytes) }
    return options
  }
}
