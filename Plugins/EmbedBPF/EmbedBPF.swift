import Foundation
import PackagePlugin

/// Generates events.h from the event table, compiles bpf/nvmepf.bpf.c for the kernel, with the clang of the Swift toolchain,
/// and makes the object a Swift source: the program needs no file beside it.
@main
struct EmbedBPF: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: Target) throws -> [Command] {
    let sources = context.package.directoryURL.appending(path: "bpf")
    let headers = try FileManager.default.contentsOfDirectory(at: sources, includingPropertiesForKeys: nil)
      .filter { $0.pathExtension == "h" }
    let generator = try context.tool(named: "event-generator").url
    let work = context.pluginWorkDirectoryURL
    let program = sources.appending(path: "nvmepf.bpf.c")
    let object = work.appending(path: "nvmepf.bpf.o")
    let embedded = work.appending(path: "BPFObject.swift")
    let script = sources.appending(path: "embed.sh")
    // One command: SwiftPM warns of a header among the outputs of a Swift target's plugin.
    return [
      .buildCommand(
        displayName: "Compiling nvmepf.bpf.c for the kernel", executable: URL(filePath: "/bin/sh"),
        arguments: [script.path, generator.path, program.path, object.path, embedded.path],
        inputFiles: [script, generator, program] + headers, outputFiles: [embedded])
    ]
  }
}
