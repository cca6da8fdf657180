import Foundation
import PackagePlugin

/// Compiles bpf/nvmepf.bpf.c for the kernel, with the clang of the Swift toolchain, and makes the object a Swift source:
/// the program needs no file beside it.
@main
struct EmbedBPF: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: Target) throws -> [Command] {
    let sources = context.package.directoryURL.appending(path: "bpf")
    let headers = try FileManager.default.contentsOfDirectory(at: sources, includingPropertiesForKeys: nil)
      .filter { $0.pathExtension == "h" }
    let object = context.pluginWorkDirectoryURL.appending(path: "nvmepf.bpf.o")
    let embedded = context.pluginWorkDirectoryURL.appending(path: "BPFObject.swift")
    let script = sources.appending(path: "embed.sh")
    return [
      .buildCommand(
        displayName: "Compiling nvmepf.bpf.c for the kernel", executable: URL(filePath: "/bin/sh"),
        arguments: [script.path, sources.appending(path: "nvmepf.bpf.c").path, object.path, embedded.path],
        inputFiles: [script, sources.appending(path: "nvmepf.bpf.c")] + headers,
        outputFiles: [embedded])
    ]
  }
}
