import Foundation
import PackagePlugin

/// Makes the commit that is checked out a Swift source, again whenever another one is.
@main
struct EmbedCommit: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: Target) throws -> [Command] {
    let package = context.package.directoryURL
    let script = package.appending(path: "scripts/commit.sh")
    let source = context.pluginWorkDirectoryURL.appending(path: "Commit.swift")
    // The log of HEAD changes with every commit and checkout. An archive has no such files.
    let inputs = [".git/HEAD", ".git/logs/HEAD"].map { package.appending(path: $0) }
      .filter { FileManager.default.fileExists(atPath: $0.path) }
    return [
      .buildCommand(
        displayName: "Noting the commit", executable: URL(filePath: "/bin/sh"),
        arguments: [script.path, package.path, source.path], inputFiles: [script] + inputs, outputFiles: [source])
    ]
  }
}
