import Foundation
import PackagePlugin

/// Makes the events' types from the event table.
@main
struct GenerateEvents: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: Target) throws -> [Command] {
    let source = context.pluginWorkDirectoryURL.appending(path: "Events.swift")
    return [
      .buildCommand(
        displayName: "Making the events' types", executable: try context.tool(named: "event-generator").url,
        arguments: ["swift", source.path], inputFiles: [], outputFiles: [source])
    ]
  }
}
