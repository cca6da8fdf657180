import ArgumentParser
import CPlatform
import Foundation
import Platform
import Probe
import Text
import Trace

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Show what can be recorded on this machine and what is missing.",
    discussion: """
      Attaches every kernel probe for a moment, which needs root; without it,
      reports everything else.

      Exit status: 0 everything works, perhaps with limits; 1 something does not.
      """)

  @Flag(help: "Print one JSON object.")
  var json = false

  func run() throws {
    let findings = kernel() + [fio(), engine(), ring(), qemu(), pages(), clock()]
    if json {
      print(JSON.object([("findings", .array(findings.map(\.object)))]).line)
    } else {
      for finding in findings { Swift.print(finding.text(color: isatty(STDOUT_FILENO) == 1)) }
    }
    if findings.contains(where: { $0.state == .red }) { throw ExitCode(1) }
  }

  struct Finding {
    enum State: String { case green, yellow, red }
    let what: String
    let state: State
    let found: String
    var remedy: String?
    var details: [String] = []

    var object: JSON {
      var members: [(String, JSON)] = [
        ("what", .string(what)), ("state", .string(state.rawValue)), ("found", .string(found)),
      ]
      if let remedy { members.append(("remedy", .string(remedy))) }
      if !details.isEmpty { members.append(("details", .array(details.map(JSON.string)))) }
      return .object(members)
    }

    /// What was found is the kernel's and other programs' text; the color alone is ours.
    func text(color: Bool) -> String {
      let paint = ["green": "32", "yellow": "33", "red": "31"][state.rawValue]!
      let mark = color ? "\u{1b}[\(paint)m\(state.rawValue)\u{1b}[0m" : state.rawValue
      let pad = String(repeating: " ", count: max(0, 6 - state.rawValue.count))
      var lines = ["\(mark)\(pad)  \(what.printable()): \(found.printable())"]
      if let remedy { lines.append("        → \(remedy.printable())") }
      lines += details.map { "        \($0.printable())" }
      return lines.joined(separator: "\n")
    }
  }

  // MARK: The kernel's target and driver

  private func kernel() -> [Finding] {
    let probes: Probes
    do throws(ProbeError) {
      var options = Probes.Options()
      options.bufferBytes = Int(getpagesize())
      probes = try Probes(options)
    } catch {
      let isAbsent = error.description.contains("modprobe")
      return [
        Finding(
          what: "kernel \(kernelRelease())", state: isAbsent ? .yellow : .red,
          found: "record --kernel does not work here",
          remedy: error.description)
      ]
    }
    return [types()] + ProbeGroup.allCases.map { group(probes, $0) } + [transports(), stages(probes)]
  }

  /// The probes would not have been loaded without them.
  private func types() -> Finding {
    let modules = (try? FileManager.default.contentsOfDirectory(atPath: "/sys/kernel/btf"))?.count ?? 1
    return Finding(
      what: "BTF", state: .green, found: "of the kernel" + (modules > 1 ? ", and of \(modules - 1) modules" : ""))
  }

  private func group(_ probes: Probes, _ group: ProbeGroup) -> Finding {
    let points = probes.points.filter { $0.group == group }
    let missing = points.filter { !$0.isAttached }
    let isAll = missing.count == points.count
    // One reason for all of them need not be said of each.
    let reasons = Set(missing.compactMap { point in if case .none(let why) = point.attachment { why } else { nil } })
    return Finding(
      what: "kernel \(kernelRelease()), \(group.title)", state: missing.isEmpty ? .green : .yellow,
      found: missing.isEmpty
        ? "all \(points.count) probes attach"
        : isAll
          ? "nothing can be recorded" + (reasons.count == 1 ? ": \(reasons.first!)" : "")
          : "\(points.count - missing.count) of \(points.count) probes attach; what is missing costs its events, not the recording",
      remedy: probes.remedy(group), details: isAll && reasons.count == 1 ? [] : points.map(\.line))
  }

  private func transports() -> Finding {
    let loaded = [
      ("nvmet_pci_epf", "PCI endpoint"), ("nvme_loop", "loop"), ("nvmet_tcp", "TCP"), ("nvmet_rdma", "RDMA"),
      ("nvmet_fc", "Fibre Channel"),
    ].filter { FileManager.default.fileExists(atPath: "/sys/module/\($0.0)") }.map(\.1)
    return Finding(
      what: "transports of the kernel's target", state: loaded.isEmpty ? .yellow : .green,
      found: loaded.isEmpty ? "none is loaded" : loaded.joined(separator: ", "),
      remedy: loaded.isEmpty ? "modprobe nvmet-tcp" : nil)
  }

  private func stages(_ probes: Probes) -> Finding {
    let what = "stages that a recording of the kernel has"
    let recorded = KernelStage.allCases.filter { $0.isRecorded(by: probes.points) }
    let missing = KernelStage.allCases.filter { !recorded.contains($0) }
    func names(_ stages: [KernelStage]) -> String { stages.map(\.rawValue).joined(separator: ", ") }
    let hosts = missing.allSatisfy { [.detect, .reap].contains($0) }
    return Finding(
      what: what, state: missing.isEmpty || (hosts && !recorded.isEmpty) ? .green : .yellow,
      found: recorded.isEmpty
        ? "none"
        : names(recorded) + (missing.isEmpty ? "" : "; not \(names(missing))")
          + (hosts && !missing.isEmpty ? ", which the host beside it tells (nvmepf merge)" : ""),
      details: [
        probes.engineTracepoints.isEmpty
          ? "DMA engines have no tracepoints in this kernel: a transfer is timed around the driver's own functions"
          : "DMA engines have tracepoints, which are not recorded: \(probes.engineTracepoints.joined(separator: " "))"
      ])
  }

  // MARK: fio and our engine

  private func fio() -> Finding {
    guard let version = DoctorCommand.output(["fio", "--version"]) else {
      return Finding(
        what: "fio", state: .yellow, found: "there is none", remedy: "apt-get install fio, for record -- fio")
    }
    return Finding(what: "fio", state: .green, found: version)
  }

  private func engine() -> Finding {
    let what = "fio engine"
    guard let path = RecordedCommand.enginePath else {
      return Finding(what: what, state: .yellow, found: "not built", remedy: "make build, for record -- fio")
    }
    // fio looks at the engine's version itself, and says where it does not match.
    guard let answer = DoctorCommand.output(["fio", "--enghelp=\(path)"]) else {
      return Finding(
        what: what, state: .red, found: "this fio does not take \(path)",
        remedy: "make build: the engine is built against the headers of the fio that is installed")
    }
    return Finding(
      what: what, state: .green, found: "this fio takes it (\(answer.split(separator: "\n").count) options)")
  }

  private func ring() -> Finding {
    let disabled = (try? String(contentsOfFile: "/proc/sys/kernel/io_uring_disabled", encoding: .utf8)) ?? "0"
    let isOn = disabled.hasPrefix("0")
    return Finding(
      what: "io_uring", state: isOn ? .green : .yellow, found: isOn ? "allowed" : "switched off",
      remedy: isOn ? nil : "sysctl kernel.io_uring_disabled=0, for namespaces on files and devices")
  }

  private func qemu() -> Finding {
    let what = "QEMU with vfio-user"
    guard let version = DoctorCommand.output(["qemu-system-x86_64", "--version"])?.split(separator: "\n").first else {
      return Finding(
        what: what, state: .yellow, found: "there is no qemu-system-x86_64",
        remedy: "Debian 13 with backports has one, for attaching virtual machines to nvmepf serve")
    }
    let has = DoctorCommand.output(["qemu-system-x86_64", "-device", "vfio-user-pci,help"]) != nil
    return Finding(
      what: what, state: has ? .green : .yellow, found: "\(version)" + (has ? "" : ", without vfio-user-pci"),
      remedy: has ? nil : "QEMU 10.1 or later, for attaching virtual machines to nvmepf serve")
  }

  private func pages() -> Finding {
    let memory = (try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8)) ?? ""
    let line = memory.split(separator: "\n").first { $0.hasPrefix("HugePages_Free") } ?? ""
    let free = line.split(separator: " ").last.flatMap { Int($0) } ?? 0
    return Finding(
      what: "huge pages", state: .green, found: free > 0 ? "\(free) free" : "none reserved, which nvmepf does not need")
  }

  private func clock() -> Finding {
    let source =
      (try? String(
        contentsOfFile: "/sys/devices/system/clocksource/clocksource0/current_clocksource", encoding: .utf8))?
      .trimmingCharacters(in: .whitespacesAndNewlines) ?? "unknown"
    let first = Clock.monotonicNs()
    for _ in 0..<10_000 { _ = nvmepf_ticks() }
    let perTick = Double(Clock.monotonicNs() - first) / 10_000
    let second = Clock.monotonicNs()
    for _ in 0..<10_000 { _ = Clock.realtimeNs() }
    let perClock = Double(Clock.monotonicNs() - second) / 10_000
    let isFast = perClock < 200
    return Finding(
      what: "clock", state: isFast ? .green : .yellow,
      found: String(
        format: "%@; %.0f ns to read the cycle counter, %.0f ns to read the system's clock", source, perTick, perClock),
      remedy: isFast ? nil : "a slow clock source makes every kernel event dear: tsc or the architecture's own is fast")
  }

  /// What a command prints; nil where it cannot be run or fails.
  private static func output(_ words: [String]) -> String? {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = words
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { return nil }
    return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }
}

extension ProbeGroup {
  var title: String {
    switch self {
    case .nvmet: "target core (nvmet)"
    case .endpoint: "nvmet-pci-epf"
    case .window: "PCI endpoint core"
    case .work: "work items"
    case .host: "host driver (nvme)"
    case .block: "block layer"
    }
  }
}

extension Probes.Point {
  /// How it is looked at, what it gives, and why it is not.
  fileprivate var line: String {
    let how: String
    var reason = ""
    switch attachment {
    case .fentry: how = "fentry"
    case .kprobe: how = "kprobe"
    case .tracepoint: how = "tracepoint"
    case .none(let why): (how, reason) = ("missing", " (\(why))")
    }
    return how + String(repeating: " ", count: 12 - how.count) + "\(name): \(gives)\(reason)"
  }
}
