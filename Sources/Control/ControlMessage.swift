import Backends
import Configuration
import Device
import Foundation
import Text

/// A request to a running endpoint: one JSON object in a line.
public enum ControlRequest: Equatable, Sendable {
  case list
  /// The namespace as in a configuration file, in JSON.
  case add(namespace: Data)
  case remove(nsid: UInt32)
  case link(isUp: Bool)
}

/// An endpoint's answer: one JSON object in a line.
public struct ControlAnswer: Codable, Equatable, Sendable {
  /// Nil on success.
  public var error: String?
  /// The result of `list`.
  public var namespaces: [NamespaceState]?
}

/// Why an endpoint cannot be controlled, in one line.
public struct ControlError: Error, CustomStringConvertible, Sendable {
  public let description: String
}

extension ControlRequest {
  /// A line without its line feed.
  public var line: Data {
    var object: [String: Any]
    switch self {
    case .list: object = ["command": "list"]
    case .add(let namespace):
      object = ["command": "add", "namespace": (try? JSONSerialization.jsonObject(with: namespace)) ?? [:]]
    case .remove(let nsid): object = ["command": "remove", "nsid": nsid]
    case .link(let isUp): object = ["command": "link", "up": isUp]
    }
    return (try? JSONSerialization.data(withJSONObject: object, options: .sortedKeys)) ?? Data()
  }

  /// - Throws: the error in the request.
  public init(line: Data) throws(ControlError) {
    guard let object = try? JSONSerialization.jsonObject(with: line) as? [String: Any],
      let command = object["command"] as? String
    else { throw ControlError(description: "a request must be a JSON object with a command") }
    switch command {
    case "list": self = .list
    case "add":
      guard let namespace = object["namespace"] as? [String: Any],
        let data = try? JSONSerialization.data(withJSONObject: namespace)
      else { throw ControlError(description: "add needs a namespace") }
      self = .add(namespace: data)
    case "remove":
      guard let nsid = (object["nsid"] as? NSNumber).flatMap({ UInt32(exactly: $0) }) else {
        throw ControlError(description: "remove needs an nsid")
      }
      self = .remove(nsid: nsid)
    case "link":
      guard let isUp = object["up"] as? Bool else { throw ControlError(description: "link needs up, true or false") }
      self = .link(isUp: isUp)
    default: throw ControlError(description: "\(command) is not a command; use list, add, remove or link")
    }
  }

  /// Perform it.
  func execute(on endpoint: some ControlledEndpoint) -> ControlAnswer {
    do {
      switch self {
      case .list: return ControlAnswer(namespaces: endpoint.namespaceStates)
      case .add(let namespace):
        try endpoint.add(NamespaceConfiguration.parse(Array(namespace), name: "namespace"))
      case .remove(let nsid): try endpoint.remove(nsid: nsid)
      case .link(let isUp): try endpoint.setLink(isUp: isUp)
      }
      return ControlAnswer()
    } catch {
      return ControlAnswer(error: "\(error)")
    }
  }
}
