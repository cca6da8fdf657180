import ArgumentParser
import Live

/// A number of bytes: `4096`, `4k`, `512KiB`, `1GiB`. Every suffix counts in powers of two, as in fio.
struct ByteCount: ExpressibleByArgument {
  let bytes: UInt64

  init(bytes: UInt64) { self.bytes = bytes }

  init?(argument: String) {
    let digits = argument.prefix { $0.isNumber }
    guard let number = UInt64(digits) else { return nil }
    let shift: UInt64
    switch argument.dropFirst(digits.count).lowercased() {
    case "", "b": shift = 0
    case "k", "kb", "kib": shift = 10
    case "m", "mb", "mib": shift = 20
    case "g", "gb", "gib": shift = 30
    case "t", "tb", "tib": shift = 40
    default: return nil
    }
    let product = number.multipliedReportingOverflow(by: 1 << shift)
    guard !product.overflow else { return nil }
    bytes = product.partialValue
  }

  var defaultValueDescription: String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] where bytes % (1 << shift) == 0 {
      return "\(bytes >> shift)\(unit)"
    }
    return "\(bytes)"
  }
}

extension BackendKind: ExpressibleByArgument {}

/// How the endpoint is made; the same for `record` and `serve`.
struct EndpointOptions: ParsableArguments {
  @Option(help: "What lies behind the namespace: nothing at all, or memory.")
  var backend = BackendKind.null

  @Option(help: ArgumentHelp("Size of the namespace.", valueName: "bytes"))
  var size = ByteCount(bytes: 1 << 30)

  @Option(help: ArgumentHelp("I/O queue pairs that a host may create: 1 to 128.", valueName: "number"))
  var queues = 16

  @Option(help: ArgumentHelp("Keep only the newest part of the recording, about this much.", valueName: "bytes"))
  var flightRecorder: ByteCount?

  @Option(help: "What is kept of the data that moves: a digest, or all of it.")
  var payload = Payload.digest

  enum Payload: String, CaseIterable, ExpressibleByArgument {
    case digest, full
  }

  func validate() throws {
    guard (1...128).contains(queues) else { throw ValidationError("--queues \(queues): 1 to 128 are possible") }
    guard size.bytes >= 4096, size.bytes <= 1 << 46 else {
      throw ValidationError("--size \(size.bytes): 4KiB to 64TiB are possible")
    }
    guard (flightRecorder?.bytes ?? .max) >= 1 << 20 else {
      throw ValidationError("--flight-recorder: 1MiB at least")
    }
  }

  var configuration: EndpointConfiguration {
    EndpointConfiguration(backend: backend, bytes: size.bytes, ioQueuesMax: UInt16(queues))
  }
}
