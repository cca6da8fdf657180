// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target: warnings are errors, and in release builds the bodies of all functions are visible to the whole
/// package, so that the engine, generic over its port, is specialised for each port in each module that drives it.
let toolSettings: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .unsafeFlags(["-cross-module-optimization"], .when(configuration: .release)),
]

/// Tests/Fuzz/run.sh instruments all targets except the build's own tools, which must link and run as they are.
let isFuzzed = Context.environment["NVMEPF_FUZZ"] != nil
let settings =
  toolSettings + (isFuzzed ? [.unsafeFlags(["-sanitize=fuzzer,address", "-enable-testing"])] : [])

let package = Package(
  name: "nvmepf",
  products: [
    .executable(name: "nvmepf", targets: ["nvmepf"]),
    // What the fio engine stands on; FioEngine/nvmepf_host.h is its interface.
    .library(name: "nvmepf-host", type: .dynamic, targets: ["HostLibrary"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.1.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", exact: "0.2.0"),
  ],
  targets: [
    // What the C library will not let Swift import: cycle counter, CRC32C, descriptor passing.
    .target(name: "CPlatform", cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    // A few operations of liburing.
    .target(
      name: "CUring", cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])],
      linkerSettings: [.linkedLibrary("uring")]),
    // libbpf, and its messages as text.
    .target(
      name: "CBPF", cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])],
      linkerSettings: [.linkedLibrary("bpf"), .linkedLibrary("elf"), .linkedLibrary("z")]),
    .systemLibrary(name: "CEdit", pkgConfig: "libedit", providers: [.apt(["libedit-dev"])]),
    .plugin(name: "EmbedCommit", capability: .buildTool()),
    .plugin(name: "EmbedBPF", capability: .buildTool(), dependencies: ["event-generator"]),
    // How numbers and foreign text are written, for all: no import.
    .target(name: "Text", swiftSettings: toolSettings),
    .target(name: "NVMe", dependencies: ["Text"], swiftSettings: settings),
    // The language of filters and breakpoints.
    .target(name: "Expressions", dependencies: ["Text"], swiftSettings: settings),
    // Numbers from a seed: no import, so that the engine can use it.
    .target(name: "Chance", swiftSettings: settings),
    .target(name: "Target", dependencies: ["Chance", "NVMe", "Text"], swiftSettings: settings),
    .target(name: "Endpoint", dependencies: ["Chance", "NVMe", "Target", "Text"], swiftSettings: settings),
    // What an event is: the table, what is made from it, and the types.
    .target(name: "EventTable", dependencies: ["Text"], swiftSettings: toolSettings),
    .executableTarget(
      name: "event-generator", dependencies: ["EventTable", "Text"], path: "Sources/EventGenerator",
      swiftSettings: toolSettings),
    .plugin(name: "GenerateEvents", capability: .buildTool(), dependencies: ["event-generator"]),
    .target(
      name: "Events", dependencies: ["EventTable", "Text"], swiftSettings: settings, plugins: ["GenerateEvents"]),
    // What an event says, in the specification's words.
    .target(name: "EventWords", dependencies: ["EventTable", "Events", "NVMe", "Text"], swiftSettings: settings),
    // Clocks, threads, waiting.
    .target(name: "Platform", dependencies: ["CPlatform"], swiftSettings: settings),
    .target(
      name: "Trace",
      dependencies: [
        "Text", "CPlatform", "CZstd", "Events", "EventTable", "Platform",
        .product(name: "HeapModule", package: "swift-collections"),
      ],
      swiftSettings: settings),
    // Whose events the kernel's streams have.
    .target(name: "KernelStreams", dependencies: ["Events"], swiftSettings: settings),
    // What the CPUs did for the kernel's PCI endpoint driver.
    .target(name: "KernelTimeline", dependencies: ["Events", "KernelStreams"], swiftSettings: settings),
    .target(name: "LocalSocket", dependencies: ["CPlatform"], swiftSettings: settings),
    .target(name: "VFIOUser", dependencies: ["CPlatform", "LocalSocket", "Platform"], swiftSettings: settings),
    .target(name: "Storage", dependencies: ["CPlatform", "CUring", "NVMe", "Platform"], swiftSettings: settings),
    // A recorder around any port.
    .target(
      name: "Recording",
      dependencies: ["CPlatform", "Endpoint", "Events", "NVMe", "Platform", "Target", "Trace"], swiftSettings: settings),
    // What lies behind namespaces.
    .target(
      name: "Backends",
      dependencies: [
        "Chance", "Endpoint", "NVMe", "Platform", "Storage", "Target",
        .product(name: "HeapModule", package: "swift-collections"),
      ],
      swiftSettings: settings),
    // What the live engine is told to do wrong.
    .target(name: "Faults", dependencies: ["NVMe", "Text"], swiftSettings: settings),
    // The engine before a real host.
    .target(
      name: "Device",
      dependencies: [
        "Text", "Chance", "Platform", "Backends", "Events", "Faults", "Recording", "CPlatform", "CUring", "NVMe",
        "Target", "Endpoint", "Trace", "VFIOUser",
      ],
      swiftSettings: settings),
    .target(name: "Configuration", dependencies: ["Backends", "Device", "Target", "Text"], swiftSettings: settings),
    .target(
      name: "Control",
      dependencies: ["Text", "CPlatform", "Platform", "Configuration", "Backends", "Device", "LocalSocket"],
      swiftSettings: settings),
    .target(
      name: "Host", dependencies: ["Text", "Chance", "Events", "Platform", "CPlatform", "NVMe", "Trace", "VFIOUser"],
      swiftSettings: settings),
    .target(
      name: "Probe", dependencies: ["Events", "CBPF", "Platform", "Trace"], swiftSettings: settings,
      plugins: ["EmbedBPF"]),
    .target(name: "FioGuard", dependencies: ["CPlatform", "Platform"], swiftSettings: settings),
    .target(name: "HostLibrary", dependencies: ["Text", "Host", "NVMe", "Trace"], swiftSettings: settings),
    .target(
      name: "Replay",
      dependencies: [
        "Text", "EventTable", "Events", "EventWords", "KernelStreams", "NVMe", "Target", "Endpoint", "Trace",
      ],
      swiftSettings: settings),
    // A port with virtual time, a host and a backend, all made by a seed.
    .target(
      name: "Simulation",
      dependencies: [
        "Text", "Analysis", "Chance", "Endpoint", "Events", "NVMe", "Platform", "Recording", "Replay", "Target",
        "Trace", .product(name: "HeapModule", package: "swift-collections"),
      ], swiftSettings: settings),
    // How precise a statistic is.
    .target(
      name: "Intervals", dependencies: [.product(name: "Histogram", package: "hdrhistogram-swift")],
      swiftSettings: settings),
    .target(
      name: "Analysis",
      dependencies: [
        "Events", "Expressions", "Intervals", "KernelStreams", "KernelTimeline", "NVMe", "Text", "Trace",
      ],
      swiftSettings: settings),
    // From a command to its events.
    .target(
      name: "Evidence", dependencies: ["Analysis", "Events", "KernelStreams", "KernelTimeline", "Trace"],
      swiftSettings: settings),
    // Recordings compared.
    .target(name: "Diff", dependencies: ["Analysis", "Intervals"], swiftSettings: settings),
    // One trace from a host's and a target's.
    .target(name: "Merge", dependencies: ["Events", "KernelStreams", "NVMe", "Trace"], swiftSettings: settings),
    // Traces made from others: cut, minimised, anonymised.
    .target(
      name: "Editing",
      dependencies: ["Endpoint", "Events", "NVMe", "Replay", "Target", "Trace"], swiftSettings: settings),
    .target(
      name: "Report",
      dependencies: [
        "Text", "Analysis", "Diff", "EventTable", "Events", "EventWords", "Evidence", "Expressions", "Intervals",
        "KernelTimeline", "NVMe",
      ],
      swiftSettings: settings),
    // The events of a trace by their numbers, in either direction.
    .target(name: "EventSequences", dependencies: ["Events", "Text", "Trace"], swiftSettings: settings),
    // A trace, and a point in it.
    .target(
      name: "Debugger",
      dependencies: [
        "Analysis", "Endpoint", "Events", "EventSequences", "EventWords", "Expressions", "KernelStreams",
        "KernelTimeline", "NVMe",
        "Replay",
        "Report", "Text", "Trace",
      ],
      swiftSettings: settings),
    // Endpoints, recordings and their commands, put together.
    .target(
      name: "Service",
      dependencies: [
        "Text", "Analysis", "Backends", "CPlatform", "Control", "Device", "Events", "Faults", "FioGuard", "Host",
        "NVMe",
        "Platform", "Probe", "Replay",
        "Trace", "VFIOUser", .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: settings, plugins: ["EmbedCommit"]),
    .executableTarget(
      name: "nvmepf",
      dependencies: [
        "Text", "EventTable", "Events", "Platform", "CPlatform", "Target", "Device", "Configuration", "Control",
        "Faults",
        "Host", "Trace", "Replay", "Analysis", "Diff", "Editing", "Evidence", "Merge", "Report", "Probe", "FioGuard",
        "Simulation", "CEdit", "Debugger", "Endpoint", "Expressions", "Service",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: settings),
    .testTarget(
      name: "EndpointTests",
      dependencies: [
        "Analysis", "Chance", "Events", "Recording", "NVMe", "Target", "Endpoint", "Backends", "Device", "Replay",
        "Simulation", "TestSeed", "Trace",
      ],
      exclude: ["Divergences.txt"], swiftSettings: settings),
    // Records the golden traces.
    .executableTarget(
      name: "record-golden", dependencies: ["Backends", "Device", "Host", "NVMe", "Service"], path: "Tests/Golden",
      swiftSettings: settings),
    .testTarget(
      name: "ServiceTests",
      dependencies: [
        "Analysis", "Backends", "Device", "Events", "Faults", "Host", "NVMe", "Replay", "Service",
        "Trace", "record-golden",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "SimulationTests",
      dependencies: ["Analysis", "Diff", "NVMe", "Recording", "Simulation", "Target", "Trace"],
      swiftSettings: settings),
    .testTarget(name: "ExpressionTests", dependencies: ["Chance", "Expressions"], swiftSettings: settings),
    .testTarget(
      name: "EditingTests",
      dependencies: [
        "Analysis", "Backends", "Chance", "Device", "Editing", "Events", "Host", "NVMe", "Replay", "Report",
        "Service", "Simulation", "Target", "Trace",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "DebuggerTests",
      dependencies: [
        "Chance", "Debugger", "Endpoint", "Events", "EventSequences", "EventTable", "NVMe", "Simulation", "Trace",
      ],
      swiftSettings: settings),
    .testTarget(name: "TextTests", dependencies: ["Chance", "Text"], swiftSettings: settings),
    .testTarget(
      name: "ToolTests",
      dependencies: [
        "Analysis", "Expressions", "nvmepf", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: settings),
    // Reads the sources.
    .testTarget(name: "TidyTests", swiftSettings: settings),
    .testTarget(name: "FioGuardTests", dependencies: ["FioGuard"], swiftSettings: settings),
    .testTarget(
      name: "HostTests",
      dependencies: [
        "Chance", "Events", "Host", "HostLibrary", "Backends", "Device", "NVMe", "Platform", "Service", "Trace",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "ConformanceTests",
      dependencies: [
        "Text", "Events", "Platform",
        "Analysis", "CPlatform", "Host", "Backends", "Device", "NVMe", "Replay", "Service", "Target", "TestDisks",
        "Trace", "VFIOUser",
      ],
      swiftSettings: settings),
    // Disks that fail, fill up or hang, for tests.
    .target(name: "TestDisks", path: "Tests/TestDisks", swiftSettings: settings),
    // The numbers of tests that draw them.
    .testTarget(
      name: "FaultsTests", dependencies: ["Chance", "EventTable", "Events", "Faults", "TestSeed", "Text"],
      swiftSettings: settings),
    .target(name: "TestSeed", dependencies: ["Chance"], path: "Tests/TestSeed", swiftSettings: settings),
    .testTarget(
      name: "ConfigurationTests", dependencies: ["Chance", "Configuration", "Backends", "Target", "TestSeed"],
      swiftSettings: settings),
    .testTarget(
      name: "ControlTests", dependencies: ["Control", "Platform", "Backends", "Device", "LocalSocket"],
      swiftSettings: settings),
    .testTarget(
      name: "StorageTests", dependencies: ["Chance", "CPlatform", "NVMe", "Storage", "TestDisks", "TestSeed"],
      swiftSettings: settings),
    .testTarget(
      name: "VFIOUserTests",
      dependencies: ["CPlatform", "Platform", "Device", "LocalSocket", "TestSeed", "VFIOUser"],
      swiftSettings: settings),
    .executableTarget(
      name: "trace-benchmark", dependencies: ["Chance", "Events", "Trace", "CPlatform"], path: "Benchmarks/Trace",
      swiftSettings: settings),
    // Records without end, for a test to kill.
    .executableTarget(
      name: "trace-crash", dependencies: ["Events", "Trace"], path: "Tests/TraceCrash", swiftSettings: settings),
    // Whether two threads see each other's values in order.
    .executableTarget(
      name: "memory-order", dependencies: ["CPlatform", "Events", "Platform", "Trace"], path: "Tests/MemoryOrder",
      swiftSettings: settings),
    // Writes a file through an endpoint that it kills, and looks at what is left.
    .executableTarget(
      name: "data-safety", dependencies: ["Text", "Chance", "Host", "NVMe"], path: "Tests/DataSafety",
      swiftSettings: settings),
    .testTarget(
      name: "TraceTests",
      dependencies: [
        "Text", "Chance", "EventTable", "Events", "Platform", "Trace", "CPlatform", "trace-crash", "nvmepf",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "AnalysisTests",
      dependencies: [
        "Chance", "Diff", "Events", "Evidence", "Expressions", "Analysis", "Intervals", "KernelStreams",
        "KernelTimeline", "NVMe",
        "Trace",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "ProbeTests",
      dependencies: [
        "Text", "Chance", "EventTable", "Events", "Analysis", "KernelStreams", "Merge", "NVMe", "Probe", "Replay",
        "Trace", "event-generator",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "ReportTests",
      dependencies: [
        "Text", "Chance", "Diff", "EventTable", "Events", "EventWords", "Evidence", "Expressions", "KernelTimeline",
        "NVMe", "Report",
        "Analysis",
        "Trace",
      ],
      swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6]
)

// Tests/Fuzz/run.sh builds this library, instrumented for libFuzzer, and links each of its entry points with it.
if isFuzzed {
  package.products.append(.library(name: "Fuzz", type: .static, targets: ["Fuzz"]))
  package.targets.append(
    .target(
      name: "Fuzz",
      dependencies: [
        "Debugger",
        "Chance", "EventTable", "Events", "Evidence", "Expressions", "Faults", "Recording",
        "Analysis", "CPlatform", "Configuration", "Endpoint", "Backends", "Device", "Merge", "NVMe", "Replay", "Report",
        "Simulation", "Target", "Trace", "VFIOUser",
      ], path: "Tests/Fuzz", exclude: ["run.sh", "corpus"], swiftSettings: settings))
}
