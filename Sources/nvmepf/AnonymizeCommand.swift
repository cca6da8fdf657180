import ArgumentParser
import Editing
import Service

struct AnonymizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "anonymize",
    abstract: "Write a trace without what tells who recorded it, and of what.",
    discussion: """
      Replaces the names, serial numbers and identifiers of the endpoint, its
      namespaces and its hosts, reservation keys and logical blocks, the same value
      always by the same other one, and removes data, digests of data, vendor
      specific fields and the notes of host, command and options. The engine then
      writes its Identify data and log pages anew, so the new trace replays as the
      old one does; if it does not, nothing is written.

      Left are times, sizes of transfers, addresses of host memory, opcodes, status
      codes, and the processor's model: see docs/editing.md.

        nvmepf anonymize run.nvpt -o public.nvpt

      Exit status: 0 the new trace is complete and replays like the old one, 2
      nothing was written.
      """)

  @OptionGroup var options: EditOptions

  @Flag(help: "Keep logical blocks and sizes of namespaces")
  var keepLba = false

  func run() throws {
    let input = try options.open()
    let edited = try ReadingProgress.show([input.reader]) {
      try Anonymized(input, keepsBlocks: keepLba).write(to: options.output)
    }
    options.report(edited, of: input.reader)
  }
}
