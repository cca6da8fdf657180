import Foundation
import Live
import Target
import Testing

@testable import Configuration

/// What `nvmetcli save` writes of a target with one PCI port and one TCP port.
private let saved = """
  {
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
            "ana_grpid": 1,
            "device": {
              "nguid": "00000000-0000-0000-0000-000000000000", "path": "/dev/nullb0",
              "uuid": "a1b2c3d4-0001-0002-0003-000000000004"
            },
            "enable": 1, "nsid": 1, "resv_enable": "1", "buffered_io": "1"
          },
          {"device": {"path": "memory:64MiB"}, "enable": 0, "nsid": 2},
          {"device": {"path": "null:1GiB,exponential:20us:5"}, "enable": 1, "nsid": 3, "block_size": 4096}
        ],
        "nqn": "nqn.2025-01.org.example:nvme0"
      }
    ],
    "functions": [
      {
        "name": "nvmet_pci_epf.0", "vendorid": "0x1b96", "deviceid": "0xbeef", "msix_interrupts": 9, "msi_interrupts": 4,
        "nvme": {"portid": 1, "mdts_kb": 1024},
        "nvmepf": {
          "fetch": "batch", "cc_poll_ms": 5, "idle_ms": 100, "nap_ms": 2, "arbitration_burst": 5,
          "coalescing_threshold": 4, "coalescing_time_us": 300, "queue_entries": 256, "core": 1
        }
      }
    ]
  }
  """

private func parse(_ text: String) throws(ConfigurationError) -> ConfigurationFile {
  try ConfigurationFile.parse(Array(text.utf8), name: "t.json")
}

/// The problems of a configuration that cannot be used.
private func problems(_ text: String) -> [String] {
  do throws(ConfigurationError) {
    _ = try parse(text)
    return []
  } catch { return error.problems }
}

@Suite("The configuration file")
struct FileTests {
  @Test("what nvmetcli saved is read as it is")
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
    var third = NamespaceConfiguration(
      nsid: 3, backend: .null(bytes: 1 << 30, serviceTime: .exponential(meanNs: 20_000, seed: 5)))
    third.blockShift = 12
    #expect(file.endpoint.namespaces == [first, third])
    #expect(file.notes.contains { $0.contains("ports[0].ana_groups") })
  }

  @Test("without a function, the only PCI port's subsystem is served with a vector for every queue and one more")
  func needsNoFunction() throws {
    let cut = saved.range(of: "\"functions\"")!
    let file = try parse(saved[..<cut.lowerBound].trimmingCharacters(in: .whitespacesAndNewlines).dropLast() + "}")
    #expect(file.endpoint.subsystem.vectors == 5 && file.endpoint.subsystem.maxTransferBytes == 512 << 10)
  }

  @Test(
    "what is wrong is named with its place",
    arguments: [
      (
        "\"enable\": 1, \"nsid\": 1", "\"enabel\": 1, \"nsid\": 1",
        "namespaces[0].enabel: unknown key; did you mean enable?"
      ),
      ("\"nsid\": 3", "\"nsid\": 1", "namespaces[2].nsid: 1 stands twice"),
      ("\"nsid\": 3", "\"nsid\": 5000", "namespaces[2].nsid: 5000 is not possible: 1 to 1024"),
      (
        "\"pi_enable\": \"0\", \"qid_max\"", "\"pi_enable\": \"1\", \"qid_max\"",
        "protection information is not supported"
      ),
      ("\"model\": \"Linux\"", "\"model\": \"Línux\"", "attr.model: at most 40 characters of ASCII"),
      ("\"model\": \"Linux\"", "\"model\": [1]", "attr.model: a string is expected, this is a list"),
      ("\"mdts_kb\": 1024", "\"mdts_kb\": 1000", "nvme.mdts_kb: 1000 is not possible: a power of two"),
      ("\"fetch\": \"batch\"", "\"fetch\": \"bulk\"", "nvmepf.fetch: bulk is not possible: single, batch"),
      ("\"trtype\": \"pci\"", "\"trtype\": \"rdma\"", "there is no port whose addr.trtype is pci"),
      ("\"trtype\": \"tcp\"", "\"trtype\": \"pci\"", "portid"),
      (
        "null:1GiB,exponential:20us:5", "null:1GiB,exponential:soon",
        "namespaces[2].device.path: exponential:soon is no service time"
      ),
      ("memory:64MiB", "memory:1", "device.path: memory:1: a size from 4KiB"),
      ("a1b2c3d4-0001", "a1b2c3d4-000x", "device.uuid"),
      ("\"serial\": \"0123456789\"", "\"serial\": \"a\", \"serial\": \"b\"", "attr.serial: stands twice"),
      ("\"hosts\": [", "\"hosts\": 7, \"unused\": [", "hosts: a list is expected, this is a number"),
      ("\"core\": 1", "\"core\": 1,", "t.json:"),
    ])
  func names(_ old: String, _ new: String, _ problem: String) {
    let found = problems(saved.replacingOccurrences(of: old, with: new))
    // A second PCI port is no problem where the function names one.
    if problem == "portid" { return #expect(found.isEmpty) }
    #expect(found.contains { $0.contains(problem) }, "\(found)")
  }

  @Test("all problems are told at once, but no more than twenty")
  func namesAll() {
    let text = "{\"hosts\": [\((0..<50).map { _ in "7" }.joined(separator: ","))], \"ports\": [], \"subsystems\": []}"
    #expect(problems(text).count == 20)
    #expect(problems(text).allSatisfy { $0.hasPrefix("t.json: ") })
  }

  @Test("a file that is cut off anywhere is refused, and its place named")
  func refusesTruncated() {
    let bytes = Array(saved.utf8)
    for end in 0..<(bytes.count - 3) {
      let found = problems(String(decoding: bytes[..<end], as: UTF8.self))
      #expect(found.count == 1 && found[0].hasPrefix("t.json:"), "\(end): \(found)")
    }
  }

  @Test("whatever the bytes, it is read or refused")
  func survivesNonsense() {
    var random = SystemRandomNumberGenerator()
    let bytes = Array(saved.utf8)
    for _ in 0..<3000 {
      var changed = bytes
      for _ in 0..<3 {
        changed[Int.random(in: 0..<changed.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      _ = try? ConfigurationFile.parse(changed, name: "t.json")
    }
    let deep = String(repeating: "[", count: 100_000)
    #expect(problems(deep)[0].contains("nested too deep"))
  }

  @Test("a file that cannot be read has a line that says why")
  func refusesFiles() {
    for path in ["/nowhere/t.json", "/"] {
      #expect(throws: ConfigurationError.self) { try ConfigurationFile.read(path: path) }
    }
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
