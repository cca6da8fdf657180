import ArgumentParser
import Configuration
import Control
import Foundation
import Trace

/// Where the endpoint listens that is to be changed.
struct ControlOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The endpoint's vfio-user socket, as given to serve.", valueName: "path"))
  var socket: String

  /// Ask the endpoint.
  func ask(_ request: ControlRequest) throws(Failure) -> ControlAnswer {
    try Failure.wrap { () throws(ControlError) in
      try ControlClient.ask(request, path: ControlServer.path(socket: socket))
    }
  }
}

struct NamespaceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ns",
    abstract: "Add, remove and list the namespaces of an endpoint that is being served.",
    discussion: """
      The host hears of a change by an asynchronous event.

        nvmepf ns add --socket /tmp/nvme.sock --backend memory:1GiB
        nvmepf ns list --socket /tmp/nvme.sock
      """,
    subcommands: [Add.self, Remove.self, List.self])

  struct Add: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Attach a namespace.")

    @OptionGroup var control: ControlOptions

    @Option(
      help: ArgumentHelp(
        "What lies behind it: null:SIZE, memory:SIZE, or the path of a file or device.", valueName: "backend"))
    var backend: String

    @Option(help: ArgumentHelp("Its identifier; without one the lowest that is free.", valueName: "number"))
    var nsid: UInt32?

    @Option(help: ArgumentHelp("Logical block size: 512 or 4096.", valueName: "bytes"))
    var blockSize: ByteCount?

    @Flag(help: "Nothing may be written.")
    var readOnly = false

    @Flag(help: "Hosts may use reservations.")
    var reservations = false

    func run() throws {
      // Before the endpoint is bothered; it looks for a file in its own directory, so paths are made whole.
      _ = try Failure.wrap { () throws(QuantityError) in try parseBackend(backend) }
      let place = backend.contains("/") ? URL(fileURLWithPath: backend).path : backend
      let nsid = try nsid ?? lowestFree()
      var namespace: [String: Any] = [
        "nsid": nsid, "device": ["path": place], "readonly": readOnly, "resv_enable": reservations,
      ]
      if let blockSize { namespace["block_size"] = blockSize.bytes }
      _ = try control.ask(.add(namespace: try JSONSerialization.data(withJSONObject: namespace)))
      print("namespace \(nsid) is attached")
    }

    private func lowestFree() throws(Failure) -> UInt32 {
      let taken = Set(try control.ask(.list).namespaces?.map(\.nsid) ?? [])
      var free: UInt32 = 1
      while taken.contains(free) { free += 1 }
      return free
    }
  }

  struct Remove: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Detach a namespace; what is under way in it completes.")

    @OptionGroup var control: ControlOptions

    @Argument(help: "Its identifier.")
    var nsid: UInt32

    func run() throws {
      _ = try control.ask(.remove(nsid: nsid))
      print("namespace \(nsid) is detached")
    }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the namespaces.")

    @OptionGroup var control: ControlOptions

    @Flag(help: "Print one JSON array.")
    var json = false

    func run() throws {
      let namespaces = try control.ask(.list).namespaces ?? []
      if json {
        let objects = namespaces.map {
          [
            "nsid": $0.nsid, "bytes": $0.bytes, "block_bytes": $0.blockBytes, "backend": $0.backend,
            "read_only": $0.isReadOnly,
          ] as [String: Any]
        }
        print(try JSON.text(objects))
        return
      }
      for namespace in namespaces {
        let rights = namespace.isReadOnly ? ", read only" : ""
        print(
          "\(namespace.nsid): \(namespace.backend.printable()), \(namespace.bytes) bytes in blocks of \(namespace.blockBytes)\(rights)"
        )
      }
    }
  }
}

struct LinkCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "link",
    abstract: "Take the PCI link of an endpoint that is being served down, or up again.",
    discussion: """
      Down, registers read as ones and what the host writes goes nowhere; what was under way is dropped. Up again, the
      controller is in its initial state.
      """)

  enum State: String, CaseIterable, ExpressibleByArgument {
    case up, down
  }

  @OptionGroup var control: ControlOptions

  @Argument(help: "What becomes of it.")
  var state: State

  func run() throws {
    _ = try control.ask(.link(isUp: state == .up))
    print("the link is \(state.rawValue)")
  }
}
