import ArgumentParser
import Configuration
import Control
import Foundation
import Service
import Text
import Trace

/// The endpoint to change.
struct ControlOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("Use the endpoint with this vfio-user socket, as given to serve", valueName: "path"),
    completion: .file())
  var socket: String

  /// Send a request to the endpoint.
  func ask(_ request: ControlRequest) throws -> ControlAnswer {
    try ControlClient.ask(request, path: ControlServer.path(socket: socket))
  }
}

struct NamespaceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ns",
    abstract: "Add, remove and list the namespaces of a served endpoint.",
    discussion: """
      An asynchronous event notifies the host of each change.

        nvmepf ns add --socket /tmp/nvme.sock --backend memory:1GiB
        nvmepf ns list --socket /tmp/nvme.sock
      """,
    subcommands: [Add.self, Remove.self, List.self])

  struct Add: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Attach a namespace.",
      usage: "nvmepf ns add --socket <path> --backend <backend> [<options>]")

    @OptionGroup var control: ControlOptions

    @Option(
      help: ArgumentHelp(
        "null:SIZE, memory:SIZE, or the path of a file or device", valueName: "backend"), completion: .file())
    var backend: String

    @Option(help: ArgumentHelp("Namespace ID (default: lowest unused)", valueName: "number"))
    var nsid: UInt32?

    @Option(
      help: ArgumentHelp(
        "Logical block size: 512 or 4096 (default: the device's own, else 512)", valueName: "bytes"))
    var blockSize: ByteCount?

    @Flag(help: "Refuse writes")
    var readOnly = false

    @Flag(help: "Offer reservations")
    var reservations = false

    func run() throws {
      // Check the backend before asking the endpoint, and make its path absolute, since the endpoint has its own
      // working directory. Do not access the file, because its file system may never answer.
      _ = try parseBackend(backend)
      let place = backend.contains("/") ? URL(fileURLWithPath: backend, isDirectory: false).path : backend
      let nsid = try nsid ?? lowestFree()
      var namespace: [(String, JSON)] = [
        ("nsid", .integer(nsid)), ("device", ["path": .string(place)]), ("readonly", .boolean(readOnly)),
        ("resv_enable", .boolean(reservations)),
      ]
      if let blockSize { namespace.append(("block_size", .integer(blockSize.bytes))) }
      _ = try control.ask(.add(namespace: Data(JSON.object(namespace).line.utf8)))
      print("namespace \(nsid) is attached")
    }

    private func lowestFree() throws -> UInt32 {
      let taken = Set(try control.ask(.list).namespaces?.map(\.nsid) ?? [])
      var free: UInt32 = 1
      while taken.contains(free) { free += 1 }
      return free
    }
  }

  struct Remove: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Detach a namespace; its commands in flight complete.")

    @OptionGroup var control: ControlOptions

    @Argument(help: "Namespace ID")
    var nsid: UInt32

    func run() throws {
      _ = try control.ask(.remove(nsid: nsid))
      print("namespace \(nsid) is detached")
    }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the namespaces.")

    @OptionGroup var control: ControlOptions

    @Flag(help: "Print one JSON object")
    var json = false

    func run() throws {
      let namespaces = try control.ask(.list).namespaces ?? []
      if json {
        let objects = namespaces.map {
          [
            "nsid": .integer($0.nsid), "bytes": .integer($0.bytes), "block_bytes": .integer($0.blockBytes),
            "backend": .string($0.backend), "read_only": .boolean($0.isReadOnly),
          ] as JSON
        }
        return print(["format": "nvmepf-namespaces/1", "namespaces": .array(objects)])
      }
      for namespace in namespaces {
        let rights = namespace.isReadOnly ? ", read only" : ""
        print(
          "\(namespace.nsid): \(namespace.backend.printable()), \(Quantity.count(namespace.bytes)) bytes in blocks of \(namespace.blockBytes)\(rights)"
        )
      }
    }
  }
}

struct LinkCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "link",
    abstract: "Take the PCI link of a served endpoint down, or up again.",
    discussion: """
      While the link is down, registers read as ones, writes are ignored, and
      commands in flight are abandoned. When it comes up, the controller is in its
      initial state.
      """)

  enum State: String, CaseIterable, ExpressibleByArgument {
    case up, down
  }

  @OptionGroup var control: ControlOptions

  @Argument(help: "Link state")
  var state: State

  func run() throws {
    _ = try control.ask(.link(isUp: state == .up))
    print("the link is \(state.rawValue)")
  }
}
