// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target: warnings are errors, and in release builds the bodies of all functions are visible to the whole
/// package, so that the engine, generic over its port, is specialised for each port in each module that drives it.
let settings: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .unsafeFlags(["-cross-module-optimization"], .when(configuration: .release)),
]

let package = Package(
  name: "nvmepf",
  products: [],
  dependencies: [],
  targets: [
    // What the C library will not let Swift import: cycle counter, CRC32C, descriptor passing.
    .target(name: "CPlatform", cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    .target(name: "NVMe", swiftSettings: settings),
    .target(name: "Trace", dependencies: ["CPlatform", "CZstd"], swiftSettings: settings),
    .executableTarget(
      name: "trace-benchmark", dependencies: ["Trace", "CPlatform"], path: "Benchmarks/Trace", swiftSettings: settings),
    // Records without end, for a test to kill.
    .executableTarget(name: "trace-crash", dependencies: ["Trace"], path: "Tests/TraceCrash", swiftSettings: settings),
    .testTarget(name: "TraceTests", dependencies: ["Trace", "CPlatform", "trace-crash"], swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6]
)
