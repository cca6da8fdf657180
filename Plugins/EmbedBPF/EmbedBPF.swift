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
    let work = context.pluginWorkDirectoryURL
    let generated = work
    let events = generated.appending(path: "events.h")
    let program = sources.appending(path: "nvmepf.bpf.c")
    let object = work.appending(path: "nvmepf.bpf.o")
    let embedded = work.appending(path: "BPFObject.swift")
    let script = sources.appending(path: "embed.sh")
    return [
      .buildCommand(
        displayName: "Generating events.h", executable: try context.tool(named: "event-generator").url,
        arguments: ["c", events.path], inputFiles: [], outputFiles: [events]),
      .buildCommand(
        displayName: "Compiling nvmepf.bpf.c for the kernel", executable: URL(filePath: "/bin/sh"),
        arguments: [script.path, generated.path, program.path, object.path, embedded.path],
        inputFiles: [script, program, events] + headers, outputFiles: [embedded]),
    ]
  }
}
