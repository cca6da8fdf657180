import ArgumentParser
import Foundation
import Service

struct ServeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Serve the endpoint on a vfio-user socket, for virtual machines and user-space drivers.",
    discussion: """
      One client at a time; the next is served when it leaves. Ctrl-C stops the
      server.

        nvmepf serve --socket /tmp/nvme.sock --backend memory
        qemu-system-x86_64 -machine q35,memory-backend=ram -m 1G \\
          -object memory-backend-memfd,id=ram,size=1G,share=on \\
          -device '{"driver":"vfio-user-pci",
            "socket":{"type":"unix","path":"/tmp/nvme.sock"}}' …

      QEMU must share its memory (share=on), or the controller cannot reach it.

      nvmepf ns adds and removes namespaces while it runs. Standard error shows
      warnings, namespaces and the link; -v adds clients and resets, -vv queues.
      """)

  @Option(help: ArgumentHelp("Listen on this socket", valueName: "path"), completion: .file())
  var socket: String

  @Option(
    help: ArgumentHelp("Record to this trace; the previous one is kept as FILE.old", valueName: "file"),
    completion: .trace)
  var record: String?

  @OptionGroup var log: LogOptions

  @OptionGroup var endpoint: EndpointOptions

  func validate() throws {
    try require(endpoint.config != nil || endpoint.subsystem == nil, "--subsystem needs --config")
  }

  func run() throws {
    OwnProcess.prepare()
    sweepLeftovers()
    let served = try ServedEndpoint(
      endpoint.configuration(place: URL(fileURLWithPath: socket).standardizedFileURL.path), keeping: endpoint.keeping,
      socketPath: socket, output: record.map { .trace($0) } ?? .none, command: CommandLine.arguments,
      logLevel: log.level)
    try served.start()
    tell("nvmepf: serving on \(socket); Ctrl-C stops it")
    let (_, failure) = served.record { watch in
      OwnProcess.waitForEnd(within: nil, record == nil ? nil : watch)
      return 0
    }
    if let failure { throw failure }
    endpoint.faults.tellCounts(served)
    guard let record else { return }
    if served.isDiscarded { return tellOfDiscarded(record) }
    tell("nvmepf: wrote \(record); now: nvmepf report \(record)")
  }
}
