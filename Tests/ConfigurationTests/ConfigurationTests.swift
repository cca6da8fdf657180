import Backends
import Chance
import Foundation
import Target
import TestSeed
import Testing

@testable import Configuration

/// What `nvmetcli save` writes of a target with one PCI port and one TCP port, and what stands beside it.
private let saved = """
  {
    "discovery": {"nqn": "nqn.2014-08.org.nvmexpress.discovery"},
    "hosts": [{"nqn": "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"}],
    "ports": [
      {
        "addr": {"adrfam": "", "traddr": "", "treq": "not specified", "trsvcid": "", "trtype": "pci", "tsas": "none"},
        "ana_groups": [{"ana": {"state": "optimized"}, "grpid": 1}],
        "param": {"inline_data_size": "-1", "pi_enable": "0"},
        "portid": 1,
        "referrals": [],
        "subsystems": ["nqn.2025-01.org.example:nvme0"]
      },
      {
        "addr": {"adrfam": "ipv4", "traddr": "10.0.0.1", "treq": "not specified", "trsvcid": "4420", "trtype": "tcp"},
        "portid": 2, "referrals": [], "subsystems": []
      }
    ],
    "subsystems": [
      {
        "allowed_hosts": [],
        "attr": {
          "allow_any_host": "1", "cntlid_max": "65519", "cntlid_min": "7", "firmware": "6.14", "ieee_oui": "0x123456",
          "model": "Linux", "pi_enable": "0", "qid_max": "4", "serial": "0123456789", "subsys_vendor_id": "0x1af4",
          "vendor_id": "0x1b96", "version": "2.1"
        },
        "namespaces": [
          {
            "ana": {"grpid": "1"}, "ana_grpid": 1,
            "device": {
              "nguid": "00000000-0000-0000-0000-000000000000", "path": "/dev/nullb0",
              "uuid": "a1b2c3d4-0001-0002-0003-000000000004"
            },
            "enable": 1, "nsid": 1, "resv": {"enable": "1"}, "buffered_io": "1"
          },
          {"device": {"path": "memory:64MiB"}, "enable": 1, "nsid": 2, "resv": {}},
          {"device": {"path": "null:1GiB,exponential:20us:5"}, "enable": 1, "nsid": 3, "block_size": 4096}
        ],
        "nqn": "nqn.2025-01.org.example:nvme0",
        "passthru": [
          {"admin_timeout": 0, "clear_ids": 0, "device": {"path": "(null)"}, "enable": 0, "io_timeout": 0}
        ]
      }
    ],
    "functions": [
      {
        "name": "nvmet_pci_epf.0", "vendorid": "0x1b96", "deviceid": "0xbeef", "msix_interrupts": 9, "msi_interrupts": 3, "revid": 1,
        "nvme": {"portid": 1, "mdts_kb": 1024},
        "nvmepf": {
          "fetch": "batch", "cc_poll_ms": 5, "idle_ms": 100, "nap_ms": 2, "arbitration_burst": 5,
          "coalescing_threshold": 4, "coalescing_time_us": 300, "queue_entries": 256, "core": 1
        }
      }
    ]
  }
  """

private func parse(_ text: String, _ choice: ConfigurationFile.Choice = .init()) throws(ConfigurationError)
  -> ConfigurationFile
{
  try ConfigurationFile.parse(Array(text.utf8), name: "t.json", choice: choice)
}

/// The problems of a configuration that cannot be used.
private func problems(_ text: String, _ choice: ConfigurationFile.Choice = .init()) -> [String] {
  do throws(ConfigurationError) {
    _ = try parse(text, choice)
    return []
  } catch { return error.problems }
}

@Suite("The configuration file")
struct FileTests {
  @Test("a file saved by nvmetcli is read unchanged")
  func readsSaved() throws {
    let file = try parse(saved)
    let subsystem = file.endpoint.subsystem
    #expect(subsystem.nqn == "nqn.2025-01.org.example:nvme0" && subsystem.serial == "0123456789")
    #expect(subsystem.model == "Linux" && subsystem.firmwareRevision == "6.14" && subsystem.controllerID == 7)
    #expect(subsystem.vendorID == 0x1b96 && subsystem.subsystemVendorID == 0x1af4 && subsystem.ieeeOUI == 0x123456)
    #expect(subsystem.ioQueuesMax == 4 && subsystem.vectors == 9 && subsystem.maxTransferBytes == 1 << 20)
    #expect(subsystem.fetchesBatches && subsystem.configurationPollMs == 5 && subsystem.queueEntriesMax == 256)
    #expect(subsystem.arbitrationBurst == 5 && subsystem.coalescingThreshold == 4 && subsystem.coalescingTime == 3)
    #expect(file.endpoint.deviceID == 0xbeef && file.endpoint.idleMs == 100 && file.endpoint.napMs == 2)
    #expect(file.endpoint.core == 1)
    var first = NamespaceConfiguration(nsid: 1, backend: .file(path: "/dev/nullb0", buffered: true))
    first.uuid = NamespaceUUID(high: 0xa1b2_c3d4_0001_0002, low: 0x0003_0000_0000_0004)
    first.hasReservations = true
    let second = NamespaceConfiguration(nsid: 2, backend: .memory(bytes: 64 << 20))
    var third = NamespaceConfiguration(
      nsid: 3, backend: .null(bytes: 1 << 30, serviceTime: .exponential(meanNs: 20_000, seed: 5)))
    third.blockShift = 12
    #expect(file.endpoint.namespaces == [first, second, third])
    #expect(file.notes == ["t.json: no effect here: revid"])
    #expect(file.endpoint.msixInterrupts == 9 && file.endpoint.msiInterrupts == 4)
  }

  @Test("vendor identifiers of 0, from an unconfigured target, select the default")
  func hasDefaults() throws {
    let text = saved.replacingOccurrences(of: "0x1af4", with: "0x0").replacingOccurrences(of: "0x1b96", with: "0x0")
    let subsystem = try parse(text).endpoint.subsystem
    #expect(subsystem.vendorID == Subsystem().vendorID && subsystem.subsystemVendorID == Subsystem().subsystemVendorID)
  }

  @Test("a disabled namespace may have any values; its unknown keys are reported")
  func ignoresDisabled() throws {
    let disabled = #"{"device": {"path": "(null)", "uuid": "none"}, "enable": 0, "nsid": 5000}"#
    func with(_ namespace: String) -> String {
      saved.replacingOccurrences(of: "\"namespaces\": [", with: "\"namespaces\": [\(namespace),")
    }
    #expect(try parse(with(disabled)).endpoint.namespaces == parse(saved).endpoint.namespaces)
    let notes = try parse(with(disabled.replacingOccurrences(of: "uuid", with: "uid"))).notes
    #expect(notes[0] == "t.json: subsystems[0].namespaces[0].device.uid: unknown key, ignored; did you mean uuid?")
  }

  @Test("a subsystem that is not served may have any values except an empty name; its unknown keys are reported")
  func ignoresUnserved() throws {
    let other = """
      {"nqn": "other", "attr": {"pi_enable": "1", "model": "\(String(repeating: "m", count: 99))"},
        "namespaces": [{"nsid": 8192, "device": {"path": "nothing"}, "enable": 1}],
        "passthru": [{"device": {"path": "/dev/nvme0"}, "enable": 1}]}
      """
    func with(_ subsystem: String) -> String {
      saved.replacingOccurrences(of: "\"subsystems\": [\n", with: "\"subsystems\": [\(subsystem),\n")
    }
    #expect(try parse(with(other)).endpoint == parse(saved).endpoint)
    #expect(
      try parse(with(other.replacingOccurrences(of: "model", with: "modle"))).notes[0]
        == "t.json: subsystems[0].attr.modle: unknown key, ignored; did you mean model?")
    let nameless = problems(with(other.replacingOccurrences(of: "\"other\"", with: "\"\"")))
    #expect(nameless.contains("t.json: subsystems[0].nqn: expected a name, found an empty string"), "\(nameless)")
  }

  @Test("without a function, the only PCI port's subsystem is served with a vector for every queue and one more")
  func needsNoFunction() throws {
    let cut = saved.range(of: "\"functions\"")!
    let file = try parse(saved[..<cut.lowerBound].trimmingCharacters(in: .whitespacesAndNewlines).dropLast() + "}")
    #expect(file.endpoint.subsystem.vectors == 5 && file.endpoint.subsystem.maxTransferBytes == 512 << 10)
  }

  @Test(
    "errors name their place",
    arguments: [
      ("\"nsid\": 3", "\"nsid\": 1", "namespaces[2].nsid: 1 stands twice"),
      ("\"nsid\": 3", "\"nsid\": 5000", "namespaces[2].nsid: 5000 is not possible: 1 to 1024"),
      (
        "\"pi_enable\": \"0\", \"qid_max\"", "\"pi_enable\": \"1\", \"qid_max\"",
        "protection information is not supported"
      ),
      ("\"model\": \"Linux\"", "\"model\": \"Línux\"", "attr.model: at most 40 characters of ASCII"),
      ("\"model\": \"Linux\"", "\"model\": [1]", "attr.model: expected a string, found a list"),
      ("\"mdts_kb\": 1024", "\"mdts_kb\": 1000", "nvme.mdts_kb: 1000 is not possible: a power of two"),
      ("\"fetch\": \"batch\"", "\"fetch\": \"bulk\"", "nvmepf.fetch: bulk is not possible: single, batch"),
      (
        "\"trtype\": \"pci\"", "\"trtype\": \"rdma\"", "functions[0].nvme.portid: addr.trtype of port 1 is not pci"
      ),
      ("{\"portid\": 1,", "{\"portid\": 3,", "functions[0].nvme.portid: there is no port 3"),
      ("{\"portid\": 1,", "{\"portid\": 2,", "functions[0].nvme.portid: addr.trtype of port 2 is not pci"),
      (
        "{\"portid\": 1,", "{\"portid\": 1, \"subsysnqn\": \"other\",",
        "functions[0].nvme.subsysnqn: port 1 does not have the subsystem other"
      ),
      ("\"portid\": 1, \"mdts_kb\": 1024", "\"subsysnqn\": \"\"", "nvme.subsysnqn: expected a name"),
      ("\"portid\": 2, \"referrals\"", "\"portid\": 1, \"referrals\"", "ports[1].portid: 1 stands twice"),
      ("\"portid\": 2, \"referrals\"", "\"referrals\"", "ports[1].portid: is missing"),
      (
        "\"subsystems\": [\n", "\"subsystems\": [{\"nqn\": \"nqn.2025-01.org.example:nvme0\"},\n",
        "subsystems[1].nqn: nqn.2025-01.org.example:nvme0 stands twice"
      ),
      (
        "\"path\": \"(null)\"}, \"enable\": 0", "\"path\": \"/dev/nvme0\"}, \"enable\": 1",
        "passthru[0].enable: the controller /dev/nvme0 cannot be passed through as a whole"
      ),
      ("\"coalescing_time_us\": 300", "\"coalescing_time_us\": 250", "coalescing_time_us: 250 is not possible"),
      ("\"trtype\": \"tcp\"", "\"trtype\": \"pci\"", "portid"),
      (
        "null:1GiB,exponential:20us:5", "null:1GiB,exponential:soon",
        "namespaces[2].device.path: exponential:soon is not a service time"
      ),
      ("memory:64MiB", "memory:1", "device.path: memory:1: needs a size from 4KiB"),
      ("a1b2c3d4-0001", "a1b2c3d4-000x", "device.uuid"),
      ("\"serial\": \"0123456789\"", "\"serial\": \"a\", \"serial\": \"b\"", "attr.serial: stands twice"),
      ("\"hosts\": [", "\"hosts\": 7, \"unused\": [", "hosts: expected a list, found a number"),
      ("\"core\": 1", "\"core\": 1,", "t.json:"),
    ])
  func names(_ old: String, _ new: String, _ problem: String) {
    let found = problems(saved.replacingOccurrences(of: old, with: new))
    // A second PCI port is no problem where the function names one.
    if problem == "portid" { return #expect(found.isEmpty) }
    #expect(found.contains { $0.contains(problem) }, "\(found)")
  }

  @Test("unknown keys are reported and ignored, without their values")
  func tellsUnknown() throws {
    let text = saved.replacingOccurrences(
      of: "\"enable\": 1, \"nsid\": 1", with: "\"enabel\": \"secret\", \"color\": 1, \"nsid\": 1")
    let file = try parse(text)
    #expect(file.endpoint == (try parse(saved).endpoint))
    #expect(
      file.notes == [
        "t.json: subsystems[0].namespaces[0].color: unknown key, ignored",
        "t.json: subsystems[0].namespaces[0].enabel: unknown key, ignored; did you mean enable?",
        "t.json: no effect here: revid",
      ])
    let many = saved.replacingOccurrences(
      of: "\"hosts\"", with: (0..<50).map { "\"unknown\($0)\": 1," }.joined() + "\"hosts\"")
    #expect(try parse(many).notes.count == 21)
  }

  @Test("hosts' keys are ignored and never printed")
  func keepsSecrets() throws {
    for (key, notes) in [
      ("", [String]()), ("DHHC-1:00:secret:", ["t.json: no effect here: dhchap.ctrl_key, dhchap.key, revid"]),
    ] {
      let host = """
        "nqn": "host-a",
        "dhchap": {"ctrl_key": "\(key)", "dhgroup": "null", "hash": "hmac(sha256)", "key": "\(key)"}}, {"nqn":
        """
      let file = try parse(saved.replacingOccurrences(of: "\"hosts\": [{\"nqn\":", with: "\"hosts\": [{\(host)"))
      #expect(file.notes == (notes.isEmpty ? ["t.json: no effect here: revid"] : notes))
      #expect(!"\(file)".contains("secret"))
    }
  }

  /// A target without a function, as published for other transports.
  private func published(_ ports: String, subsystems: [String] = ["sub-a", "sub-b"]) -> String {
    let all = subsystems.map { #"{"nqn": "\#($0)", "namespaces": [{"nsid": 1, "device": {"path": "null:1GiB"}}]}"# }
    return #"{"ports": [\#(ports)], "subsystems": [\#(all.joined(separator: ","))]}"#
  }

  @Test("a file for another transport is refused with a remedy, and served with --subsystem or --port")
  func choosesBeside() throws {
    let tcp = #"{"portid": 4, "addr": {"trtype": "tcp", "trsvcid": 4420}, "subsystems": ["sub-b"]}"#
    let both = #"{"portid": 5, "addr": {"trtype": "rdma"}, "subsystems": ["sub-a", "sub-b"]}"#
    let text = published("\(tcp), \(both)")
    #expect(
      problems(text) == [
        "t.json: ports: the endpoint is a PCI function, and no port has addr.trtype pci (port 4 is tcp, port 5 is rdma): "
          + "choose what it serves with --subsystem sub-a or --subsystem sub-b, or set addr.trtype to pci"
      ])
    #expect(try parse(text, .init(subsystem: "sub-a")).endpoint.subsystem.nqn == "sub-a")
    #expect(try parse(text, .init(port: 4)).endpoint.subsystem.nqn == "sub-b")
    #expect(try parse(text, .init(port: 5, subsystem: "sub-b")).endpoint.subsystem.nqn == "sub-b")
    #expect(
      problems(text, .init(port: 4, subsystem: "sub-a")) == [
        "t.json: ports[0].subsystems: port 4 does not have the subsystem sub-a"
      ])
    #expect(problems(text, .init(port: 6)) == ["t.json: ports: there is no port 6"])
    #expect(
      problems(text, .init(subsystem: "sub-c")) == [
        "t.json: subsystems: there is no subsystem sub-c, only sub-a, sub-b"
      ])
    // What is chosen beside the file counts before what its function says.
    let named = String(text.dropLast()) + #", "functions": [{"nvme": {"portid": 4}}]}"#
    #expect(problems(named) == ["t.json: functions[0].nvme.portid: addr.trtype of port 4 is not pci"])
    #expect(try parse(named, .init(subsystem: "sub-a")).endpoint.subsystem.nqn == "sub-a")
  }

  @Test("a port without a subsystem, with two, and two PCI ports: one line each with the remedy")
  func choosesNothing() throws {
    func pci(_ number: Int, _ subsystems: String) -> String {
      #"{"portid": \#(number), "addr": {"trtype": "pci"}, "subsystems": [\#(subsystems)]}"#
    }
    #expect(
      problems(published(pci(1, ""))) == [
        "t.json: ports[0].subsystems: a PCI function serves one subsystem, but port 1 has none: "
          + "choose with --subsystem sub-a or --subsystem sub-b"
      ])
    #expect(
      problems(published(pci(1, #""sub-a", "sub-b""#))) == [
        "t.json: ports[0].subsystems: a PCI function serves one subsystem, but port 1 has 2: "
          + "choose with --subsystem sub-a or --subsystem sub-b"
      ])
    let two = published("\(pci(1, #""sub-a""#)), \(pci(2, #""sub-b""#))")
    #expect(problems(two) == ["t.json: ports: 2 ports have addr.trtype pci: choose one with --port 1 or --port 2"])
    #expect(try parse(two, .init(port: 2)).endpoint.subsystem.nqn == "sub-b")
    let none = problems(published("", subsystems: []))
    #expect(none.count == 1 && none[0].contains("with --subsystem NQN"), "\(none)")
    // No port, no addr, a subsystem's key where nvmetcli has none: still served by name.
    let bare =
      #"{"subsystems": [{"nqn": "a", "allow_any_host": "1", "namespaces": [{"nsid": 1, "device": {"path": "null:1M"}}]}],"#
      + #" "ports": [{"portid": 1}]}"#
    #expect(problems(bare)[0].contains("(port 1 is of none): choose what it serves with --subsystem a"))
    let file = try parse(bare, .init(subsystem: "a"))
    #expect(file.notes == ["t.json: subsystems[0].allow_any_host: unknown key, ignored"])
  }

  @Test("missing identifiers are derived from the endpoint's seed and stay the same")
  func derivesIdentity() throws {
    let plain = published(#"{"portid": 1, "addr": {"trtype": "pci"}, "subsystems": ["sub-a"]}"#)
    let (first, second) = (try parse(plain, .init(seed: "/run/a")), try parse(plain, .init(seed: "/run/b")))
    #expect(try first.endpoint == parse(plain, .init(seed: "/run/a")).endpoint)
    #expect(first.endpoint.subsystem.nqn == "sub-a" && second.endpoint.subsystem.nqn == "sub-a")
    #expect(first.endpoint.subsystem.serial != second.endpoint.subsystem.serial)
    #expect(first.endpoint.subsystem.controllerID != second.endpoint.subsystem.controllerID)
    let given = try parse(saved, .init(seed: "/run/a")).endpoint.subsystem
    #expect(given.serial == "0123456789" && (7...0xffef).contains(given.controllerID))
    let one = saved.replacingOccurrences(of: "\"cntlid_max\": \"65519\"", with: "\"cntlid_max\": \"7\"")
    #expect(try parse(one, .init(seed: "/run/a")).endpoint.subsystem.controllerID == 7)
    let none = saved.replacingOccurrences(of: "\"cntlid_max\": \"65519\"", with: "\"cntlid_max\": \"6\"")
    #expect(problems(none) == ["t.json: subsystems[0].attr.cntlid_min: 7 is more than cntlid_max, 6"])
  }

  @Test("all problems are reported together, at most twenty")
  func namesAll() {
    let text = "{\"hosts\": [\((0..<50).map { _ in "7" }.joined(separator: ","))], \"ports\": [], \"subsystems\": []}"
    #expect(problems(text).count == 20)
    #expect(problems(text).allSatisfy { $0.hasPrefix("t.json: ") })
  }

  @Test("an escape in a string has hexadecimal digits and no sign", arguments: ["+041", "-000", "004", "00 1"])
  func refusesSigns(digits: String) {
    #expect(problems("{\"\\u\(digits)\": 1}").first?.contains("expected four hexadecimal digits") == true)
  }

  @Test("a truncated file is refused with the place")
  func refusesTruncated() {
    let bytes = Array(saved.utf8)
    for end in 0..<(bytes.count - 3) {
      let found = problems(String(decoding: bytes[..<end], as: UTF8.self))
      #expect(found.count == 1 && found[0].hasPrefix("t.json:"), "\(end): \(found)")
    }
  }

  @Test("arbitrary bytes are read or refused")
  func survivesNonsense() {
    var random = drawnNumbers("configuration")
    let bytes = Array(saved.utf8)
    for _ in 0..<3000 {
      var changed = bytes
      for _ in 0..<3 {
        changed[Int.random(in: 0..<changed.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      _ = try? ConfigurationFile.parse(changed, name: "t.json")
    }
    let deep = String(repeating: "[", count: 100_000)
    #expect(problems(deep)[0].contains("nested too deeply"))
  }

  @Test("an unreadable file is reported with the reason")
  func refusesFiles() {
    for path in ["/nowhere/t.json", "/"] {
      #expect(throws: ConfigurationError.self) { try ConfigurationFile.read(path: path) }
    }
  }

  @Test("a FIFO is read to its end, and refused without a writer")
  func readsFIFO() throws {
    let path = NSTemporaryDirectory() + "/nvmepf-\(UUID().uuidString).fifo"
    try #require(mkfifo(path, 0o600) == 0)
    defer { unlink(path) }
    let abandoned = #expect(throws: ConfigurationError.self) { try ConfigurationFile.read(path: path) }
    #expect(abandoned?.description == "\(path) is a FIFO without a writer")
    let writer = open(path, O_RDWR)
    #expect(write(writer, saved, saved.utf8.count) == saved.utf8.count)
    Thread.detachNewThread {
      var polled = pollfd(fd: writer, events: Int16(POLLIN), revents: 0)
      while poll(&polled, 1, 0) > 0 { sched_yield() }
      close(writer)
    }
    #expect(try ConfigurationFile.read(path: path).endpoint.namespaces.count == 3)
  }

  @Test("the example in docs/configuration.md is read")
  func readsExample() throws {
    let page = try String(contentsOfFile: "docs/configuration.md", encoding: .utf8)
    let example = try #require(
      page.components(separatedBy: "```json\n").dropFirst().first?.components(separatedBy: "```").first)
    let file = try parse(example)
    #expect(file.endpoint.namespaces.count == 2)
  }
}

@Suite("Quantities")
struct QuantityTests {
  @Test(
    "backends",
    arguments: ["null", "memory:4k", "null:1GiB,constant:10us", "null:1GiB,uniform:5us-50us:9", "./x", "/dev/sda"])
  func reads(_ text: String) throws { _ = try parseBackend(text, bytesDefault: 1 << 30) }

  @Test(
    "what is no backend",
    arguments: [
      "", "nul", "null", "memory:", "memory:1GiB,constant:1us", "null:1GiB,", "null:1GiB,uniform:9us-1us",
      "null:99999999999999999999",
    ])
  func refuses(_ text: String) { #expect(throws: QuantityError.self) { try parseBackend(text) } }
}
