import CPlatform
import Foundation
import Platform
import Probe
import Text

/// What works of recording on this machine, or does not.
public struct MachineFinding {
  /// How it is: it works, with limits, or not at all.
  public enum State: String { case green, yellow, red }
  /// The capability that was examined.
  public let what: String
  public let state: State
  /// The result, in words.
  public let found: String
  /// What to do about it; nil if nothing.
  public private(set) var remedy: String?
  /// Further lines, for example each missing probe.
  public private(set) var details: [String] = []

  /// Attaches every kernel probe for a moment.
  public static func all() -> [MachineFinding] { kernel() + [fio(), engine(), ring(), qemu(), pages(), clock()] }

  // MARK: The kernel's target and driver

  private static func kernel() -> [MachineFinding] {
    let probes: Probes
    do throws(ProbeError) {
      var options = Probes.Options()
      options.bufferBytes = Int(getpagesize())
      probes = try Probes(options)
    } catch {
      let isAbsent = error.description.contains("modprobe")
      return [
        MachineFinding(
          what: "kernel \(kernelRelease())", state: isAbsent ? .yellow : .red,
          found: "record --kernel does not work",
          remedy: error.description)
      ]
    }
    return [types()] + ProbeGroup.allCases.map { group(probes, $0) } + [transports(), stages(probes)]
  }

  /// Without it no probe would have loaded.
  private static func types() -> MachineFinding {
    let modules = (try? FileManager.default.contentsOfDirectory(atPath: "/sys/kernel/btf"))?.count ?? 1
    return MachineFinding(
      what: "BTF", state: .green, found: "of the kernel" + (modules > 1 ? ", and of \(modules - 1) modules" : ""))
  }

  private static func group(_ probes: Probes, _ group: ProbeGroup) -> MachineFinding {
    let points = probes.points.filter { $0.group == group }
    let missing = points.filter { !$0.isAttached }
    let isAll = missing.count == points.count
    // Do not repeat a reason that applies to all of them.
    let reasons = Set(missing.compactMap { point in if case .none(let why) = point.attachment { why } else { nil } })
    return MachineFinding(
      what: "kernel \(kernelRelease()), \(group.title)", state: missing.isEmpty ? .green : .yellow,
      found: missing.isEmpty
        ? "all \(points.count) probes attach"
        : isAll
          ? "nothing can be recorded" + (reasons.count == 1 ? ": \(reasons.first!)" : "")
          : "\(points.count - missing.count) of \(points.count) probes attach; only the events of the others are missing",
      remedy: probes.remedy(group), details: isAll && reasons.count == 1 ? [] : points.map(\.line))
  }

  private static func transports() -> MachineFinding {
    let loaded = [
      ("nvmet_pci_epf", "PCI endpoint"), ("nvme_loop", "loop"), ("nvmet_tcp", "TCP"), ("nvmet_rdma", "RDMA"),
      ("nvmet_fc", "Fibre Channel"),
    ].filter { FileManager.default.fileExists(atPath: "/sys/module/\($0.0)") }.map(\.1)
    return MachineFinding(
      what: "transports of the kernel's target", state: loaded.isEmpty ? .yellow : .green,
      found: loaded.isEmpty ? "none loaded" : loaded.joined(separator: ", "),
      remedy: loaded.isEmpty ? "modprobe nvmet-tcp" : nil)
  }

  private static func stages(_ probes: Probes) -> MachineFinding {
    let what = "stages in a recording of the kernel"
    let recorded = KernelStage.allCases.filter { $0.isRecorded(by: probes.points) }
    let missing = KernelStage.allCases.filter { !recorded.contains($0) }
    func names(_ stages: [KernelStage]) -> String { stages.map(\.rawValue).joined(separator: ", ") }
    let hosts = missing.allSatisfy { [.detect, .reap].contains($0) }
    return MachineFinding(
      what: what, state: missing.isEmpty || (hosts && !recorded.isEmpty) ? .green : .yellow,
      found: recorded.isEmpty
        ? "none"
        : names(recorded) + (missing.isEmpty ? "" : "; not \(names(missing))")
          + (hosts && !missing.isEmpty ? "; merge the trace with the host's for these" : ""),
      details: [
        probes.engineTracepoints.isEmpty
          ? "DMA engines have no tracepoints in this kernel: transfers are timed around the driver's functions"
          : "DMA engines have tracepoints, which are not recorded: \(probes.engineTracepoints.joined(separator: " "))"
      ])
  }

  // MARK: fio and our engine

  private static func output(_ words: String...) -> String? { OtherProgram.output("/usr/bin/env", words) }

  private static func fio() -> MachineFinding {
    guard let version = output("fio", "--version") else {
      return MachineFinding(
        what: "fio", state: .yellow, found: "not installed", remedy: "apt-get install fio, for record -- fio")
    }
    return MachineFinding(what: "fio", state: .green, found: version)
  }

  private static func engine() -> MachineFinding {
    let what = "fio engine"
    guard let path = FioEngine.path else {
      return MachineFinding(
        what: what, state: .yellow, found: FioEngine.absence, remedy: "\(FioEngine.remedy), for record -- fio")
    }
    // fio checks the engine's version itself, and reports a mismatch.
    guard let answer = output("fio", "--enghelp=\(path)") else {
      return MachineFinding(
        what: what, state: .red, found: "this fio does not load \(path)",
        remedy: "install the nvmepf-fio for the installed fio; make build compiles it")
    }
    return MachineFinding(
      what: what, state: .green, found: "this fio loads it (\(answer.split(separator: "\n").count) options)")
  }

  private static func ring() -> MachineFinding {
    let disabled = readText("/proc/sys/kernel/io_uring_disabled") ?? "0"
    let isOn = disabled.hasPrefix("0")
    return MachineFinding(
      what: "io_uring", state: isOn ? .green : .yellow, found: isOn ? "enabled" : "disabled",
      remedy: isOn ? nil : "sysctl kernel.io_uring_disabled=0, for namespaces on files and devices")
  }

  private static func qemu() -> MachineFinding {
    let what = "QEMU with vfio-user"
    guard let version = output("qemu-system-x86_64", "--version")?.split(separator: "\n").first else {
      return MachineFinding(
        what: what, state: .yellow, found: "qemu-system-x86_64 is not installed",
        remedy: "install it from Debian 13 backports to attach virtual machines to nvmepf serve")
    }
    let has = output("qemu-system-x86_64", "-device", "vfio-user-pci,help") != nil
    return MachineFinding(
      what: what, state: has ? .green : .yellow, found: "\(version)" + (has ? "" : ", without vfio-user-pci"),
      remedy: has ? nil : "install QEMU 10.1 or later to attach virtual machines to nvmepf serve")
  }

  private static func pages() -> MachineFinding {
    let bytes = sysconf(Int32(_SC_PAGESIZE))
    guard bytes == 4096 else {
      return MachineFinding(
        what: "pages", state: .red, found: "of \(Quantity.count(bytes)) bytes; rings and doorbells need pages of 4,096",
        remedy: "boot a kernel with pages of 4 KiB (on Debian, linux-image-arm64)")
    }
    let memory = readText("/proc/meminfo") ?? ""
    let line = memory.split(separator: "\n").first { $0.hasPrefix("HugePages_Free") } ?? ""
    let free = line.split(separator: " ").last.flatMap { Int($0) } ?? 0
    return MachineFinding(
      what: "huge pages", state: .green, found: free > 0 ? "\(free) free" : "none reserved; nvmepf does not need them")
  }

  private static func clock() -> MachineFinding {
    let source =
      readText("/sys/devices/system/clocksource/clocksource0/current_clocksource")?
      .trimmingCharacters(in: .whitespacesAndNewlines) ?? "unknown"
    let first = Clock.monotonicNs()
    for _ in 0..<10_000 { _ = nvmepf_ticks() }
    let perTick = Double(Clock.monotonicNs() - first) / 10_000
    let second = Clock.monotonicNs()
    for _ in 0..<10_000 { _ = Clock.realtimeNs() }
    let perClock = Double(Clock.monotonicNs() - second) / 10_000
    let isFast = perClock < 200
    return MachineFinding(
      what: "clock", state: isFast ? .green : .yellow,
      found: "\(source); \(Quantity.decimal(perTick, 0)) ns to read the cycle counter, "
        + "\(Quantity.decimal(perClock, 0)) ns to read the system's clock",
      remedy: isFast
        ? nil
        : "use a fast clock source (tsc, or the architecture's own): a slow one makes every kernel event expensive")
  }
}

extension Probes.Point {
  /// How the probe attaches, what it records, and why it does not attach.
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
