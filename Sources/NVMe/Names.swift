import Text

/// Names of numbers that the specification defines, also of those that our controller does not support: the kernel's
/// targets and hosts use them. All are written like `lba-out-of-range`.
public enum NVMeName {
  /// Of an opcode; nil if the specification does not define it.
  public static func opcode(_ opcode: UInt8, isAdmin: Bool) -> String? {
    let name = (isAdmin ? adminOpcodes : ioOpcodes)[Int(opcode)]
    return name.isEmpty ? nil : name
  }

  /// The opcode with a name, or given as a number: `read`, `0x2`, `2`.
  public static func opcode(_ text: String, isAdmin: Bool) -> UInt8? {
    (isAdmin ? adminOpcodes : ioOpcodes).firstIndex { $0 == text && !$0.isEmpty }.map { UInt8($0) }
  }

  public static func feature(_ id: UInt8) -> String? { nonempty(features[Int(id)]) }
  public static func logPage(_ id: UInt8) -> String? { nonempty(logPages[Int(id)]) }
  public static func cns(_ cns: UInt8) -> String? { nonempty(structures[Int(cns)]) }

  /// Of the Status Code Type and Status Code of a completion, 0...0x7ff.
  public static func status(_ code: UInt16) -> String? { nonempty(statuses[Int(code & 0x7ff)]) }

  /// The Status Code Type and Status Code with this name.
  public static func status(named name: String) -> UInt16? {
    name.isEmpty ? nil : statuses.firstIndex(of: name).map { UInt16($0) }
  }

  private static func nonempty(_ name: String) -> String? { name.isEmpty ? nil : name }

  private static func table(_ count: Int, _ names: [(Int, String)]) -> [String] {
    var table = [String](repeating: "", count: count)
    for (number, name) in names { table[number] = name }
    return table
  }

  /// Base 2.1, figure "Opcodes for Admin Commands".
  private static let adminOpcodes = table(
    256,
    [
      (0x0d, "namespace-management"), (0x10, "firmware-commit"),
      (0x11, "firmware-image-download"), (0x14, "device-self-test"), (0x15, "namespace-attachment"),
      (0x19, "directive-send"), (0x1a, "directive-receive"), (0x1c, "virtualization-management"),
      (0x1d, "nvme-mi-send"), (0x1e, "nvme-mi-receive"), (0x20, "capacity-management"), (0x24, "lockdown"),
      (0x7c, "doorbell-buffer-config"), (0x7f, "fabrics"), (0x80, "format-nvm"), (0x81, "security-send"),
      (0x82, "security-receive"), (0x84, "sanitize"), (0x86, "get-lba-status"),
    ] + AdminOpcode.allCases.map { (Int($0.rawValue), $0.name) })

  /// NVM Command Set 1.1, 3.3; Base 2.1, 7; Zoned Namespace Command Set 1.2, 3.4.
  private static let ioOpcodes = table(
    256,
    [
      (0x04, "write-uncorrectable"), (0x12, "io-management-receive"), (0x18, "cancel"), (0x1d, "io-management-send"),
      (0x79, "zone-management-send"), (0x7a, "zone-management-receive"), (0x7d, "zone-append"), (0x7f, "fabrics"),
    ] + IOOpcode.allCases.map { (Int($0.rawValue), $0.name) })

  /// Base 2.1, figure "Feature Identifiers".
  private static let features = table(
    256,
    [
      (0x03, "lba-range-type"), (0x0c, "autonomous-power-state-transition"), (0x0d, "host-memory-buffer"),
      (0x10, "host-controlled-thermal-management"), (0x11, "non-operational-power-state-config"),
      (0x12, "read-recovery-level-config"), (0x13, "predictable-latency-mode-config"),
      (0x14, "predictable-latency-mode-window"), (0x17, "sanitize-config"),
      (0x18, "endurance-group-event-configuration"), (0x19, "io-command-set-profile"),
      (0x1a, "spinup-control"), (0x80, "software-progress-marker"),
    ] + FeatureID.allCases.map { (Int($0.rawValue), "\($0)".hyphenated) })

  /// Base 2.1, figure "Log Page Identifiers".
  private static let logPages = table(
    256,
    [
      (0x06, "device-self-test"), (0x07, "telemetry-host-initiated"), (0x08, "telemetry-controller-initiated"),
      (0x09, "endurance-group-information"), (0x0a, "predictable-latency-per-nvm-set"),
      (0x0b, "predictable-latency-event-aggregate"), (0x0c, "asymmetric-namespace-access"),
      (0x0d, "persistent-event-log"), (0x0f, "endurance-group-event-aggregate"), (0x70, "discovery"),
      (0x81, "sanitize-status"),
    ] + LogPageID.allCases.map { (Int($0.rawValue), "\($0)".hyphenated) })

  /// Base 2.1, figure "CNS Values".
  private static let structures = table(
    256,
    [
      (0x00, "namespace"), (0x01, "controller"), (0x02, "active-namespaces"), (0x03, "namespace-descriptors"),
      (0x04, "nvm-sets"), (0x05, "command-set-namespace"), (0x06, "command-set-controller"),
      (0x07, "command-set-active-namespaces"), (0x08, "independent-namespace"), (0x10, "allocated-namespaces"),
      (0x11, "allocated-namespace"), (0x12, "namespace-controllers"), (0x13, "controllers"),
      (0x14, "primary-controller-capabilities"), (0x15, "secondary-controllers"), (0x17, "uuids"),
      (0x19, "endurance-groups"), (0x1c, "command-set-combinations"),
    ])

  /// Base 2.1, 4.2.3; NVM Command Set 1.1, 3.1. By Status Code Type × 256 + Status Code.
  private static let statuses = table(2048, generic + commandSpecific + media + path)

  private static let generic = [
    (0x00, "success"), (0x01, "invalid-opcode"), (0x02, "invalid-field"), (0x03, "command-id-conflict"),
    (0x04, "data-transfer-error"), (0x05, "aborted-power-loss"), (0x06, "internal-error"), (0x07, "abort-requested"),
    (0x08, "aborted-sq-deletion"), (0x09, "failed-fused-command"), (0x0a, "missing-fused-command"),
    (0x0b, "invalid-namespace-or-format"), (0x0c, "command-sequence-error"),
    (0x0d, "invalid-sgl-segment-descriptor"), (0x0e, "invalid-number-of-sgl-descriptors"),
    (0x0f, "data-sgl-length-invalid"), (0x10, "metadata-sgl-length-invalid"), (0x11, "sgl-descriptor-type-invalid"),
    (0x12, "invalid-use-of-controller-memory-buffer"), (0x13, "prp-offset-invalid"),
    (0x14, "atomic-write-unit-exceeded"), (0x15, "operation-denied"), (0x16, "sgl-offset-invalid"),
    (0x18, "host-identifier-inconsistent-format"), (0x19, "keep-alive-timer-expired"),
    (0x1a, "keep-alive-timeout-invalid"), (0x1b, "aborted-preempt-and-abort"), (0x1c, "sanitize-failed"),
    (0x1d, "sanitize-in-progress"), (0x1e, "sgl-data-block-granularity-invalid"),
    (0x1f, "command-not-supported-for-queue-in-cmb"), (0x20, "namespace-is-write-protected"),
    (0x21, "command-interrupted"), (0x22, "transient-transport-error"), (0x23, "prohibited-by-lockdown"),
    (0x24, "admin-command-media-not-ready"), (0x80, "lba-out-of-range"), (0x81, "capacity-exceeded"),
    (0x82, "namespace-not-ready"), (0x83, "reservation-conflict"), (0x84, "format-in-progress"),
  ]

  private static let commandSpecific = [
    (0x100, "completion-queue-invalid"), (0x101, "invalid-queue-identifier"), (0x102, "invalid-queue-size"),
    (0x103, "abort-command-limit-exceeded"), (0x105, "asynchronous-event-request-limit-exceeded"),
    (0x106, "invalid-firmware-slot"), (0x107, "invalid-firmware-image"), (0x108, "invalid-interrupt-vector"),
    (0x109, "invalid-log-page"), (0x10a, "invalid-format"), (0x10b, "firmware-activation-requires-reset"),
    (0x10c, "invalid-queue-deletion"), (0x10d, "feature-identifier-not-saveable"), (0x10e, "feature-not-changeable"),
    (0x10f, "feature-not-namespace-specific"), (0x114, "overlapping-range"),
    (0x115, "namespace-insufficient-capacity"), (0x116, "namespace-identifier-unavailable"),
    (0x118, "namespace-already-attached"), (0x119, "namespace-is-private"), (0x11a, "namespace-not-attached"),
    (0x11b, "thin-provisioning-not-supported"), (0x11c, "controller-list-invalid"),
    (0x11d, "device-self-test-in-progress"), (0x11f, "invalid-controller-identifier"),
    (0x129, "io-command-set-not-supported"), (0x12a, "io-command-set-not-enabled"), (0x180, "conflicting-attributes"),
    (0x181, "invalid-protection-information"), (0x182, "attempted-write-to-read-only-range"),
    (0x183, "command-size-limit-exceeded"), (0x1b8, "zone-boundary-error"), (0x1b9, "zone-is-full"),
    (0x1ba, "zone-is-read-only"), (0x1bb, "zone-is-offline"), (0x1bc, "zone-invalid-write"),
    (0x1bd, "too-many-active-zones"), (0x1be, "too-many-open-zones"), (0x1bf, "invalid-zone-state-transition"),
  ]

  private static let media = [
    (0x280, "write-fault"), (0x281, "unrecovered-read-error"), (0x282, "guard-check-error"),
    (0x283, "application-tag-check-error"), (0x284, "reference-tag-check-error"), (0x285, "compare-failure"),
    (0x286, "access-denied"), (0x287, "deallocated-or-unwritten-block"), (0x288, "storage-tag-check-error"),
  ]

  private static let path = [
    (0x300, "internal-path-error"), (0x301, "asymmetric-access-persistent-loss"),
    (0x302, "asymmetric-access-inaccessible"), (0x303, "asymmetric-access-transition"),
    (0x360, "controller-pathing-error"), (0x370, "host-pathing-error"), (0x371, "aborted-by-host"),
  ]
}

extension Status {
  /// Do Not Retry: the same command will fail again.
  public static let doNotRetry: UInt16 = 1 << 14

  /// The meaning of type and code: `lba-out-of-range`; nil if the specification does not define it.
  public var name: String? { NVMeName.status(code) }
}
