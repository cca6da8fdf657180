import Foundation
import Trace

enum JSON {
  /// An object or a list in one line, keys in alphabetical order. It can go to a terminal.
  static func text(_ object: Any) throws -> String {
    let data = try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .withoutEscapingSlashes])
    return String(decoding: data, as: UTF8.self).printableJSON
  }
}
