import Backends
import Configuration

/// A configuration file of any bytes is read or refused.
@_cdecl("fuzz_configuration")
public func fuzzConfiguration(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  let bytes = Array(UnsafeBufferPointer(start: data, count: count))
  if let file = try? ConfigurationFile.parse(bytes, name: "fuzz") {
    precondition(file.endpoint.subsystem.isValid, "a configuration that cannot be served was accepted")
  }
  _ = try? NamespaceConfiguration.parse(bytes, name: "fuzz")
  return 0
}
