import CBPF
import Foundation
import Glibc
import Platform

/// bpf/nvmepf.bpf.c loaded into the kernel: its programs and maps, including a ring buffer per CPU.
final class ProbeObject {
  enum Failure: Error {
    /// The kernel refuses this program; the others may load without it.
    case refused(Refusal)
    case fatal(ProbeError)

    var problem: ProbeError {
      switch self {
      case .refused(let refusal): ProbeError("the kernel refuses the probe \(refusal.program): \(refusal.why)")
      case .fatal(let error): error
      }
    }
  }

  struct Options {
    /// Names of the programs to load.
    var programs: Set<String>
    /// Values of the object's `const volatile` variables, by name.
    var constants: [(name: String, value: UInt64)] = []
    var cpus: Int
    /// Size of each CPU's ring buffer.
    var bufferBytes: Int
  }

  /// The loaded programs, by name.
  let programs: [String: OpaquePointer]
  private(set) var rings: [Int32] = []
  private let pointer: OpaquePointer

  init(_ options: Options) throws(Failure) {
    LibraryLog.begin()
    let pointer = try ProbeObject.open()
    self.pointer = pointer
    var programs: [String: OpaquePointer] = [:]
    for program in ProbeObject.programs(of: pointer) {
      let name = String(cString: bpf_program__name(program))
      bpf_program__set_autoload(program, options.programs.contains(name))
      if options.programs.contains(name) { programs[name] = program }
    }
    self.programs = programs
    // From here on, deinit cleans up after a failure.
    try setConstants(options.constants)
    guard let map = bpf_object__find_map_by_name(pointer, "rings") else { throw .fatal(ProbeObject.notWhole) }
    bpf_map__set_max_entries(map, UInt32(options.cpus))
    let error = bpf_object__load(pointer)
    guard error == 0 else { throw ProbeObject.failure(-error) }
    try makeRings(map, options)
  }

  deinit {
    bpf_object__close(pointer)
    for ring in rings { close(ring) }
  }

  private static let notWhole = ProbeError("the probes that built into this program are incomplete")

  /// The object, as the package's build embedded it.
  static var bytes: Data { Data(base64Encoded: "\(bpfObject)") ?? Data() }

  private static func open() throws(Failure) -> OpaquePointer {
    let opened = bytes.withUnsafeBytes { bpf_object__open_mem($0.baseAddress!, $0.count, nil) }
    guard let opened else { throw .fatal(notWhole) }
    return opened
  }

  private static func programs(of object: OpaquePointer) -> [OpaquePointer] {
    var programs: [OpaquePointer] = []
    while let next = bpf_object__next_program(object, programs.last) { programs.append(next) }
    return programs
  }

  /// The names of all programs in the object.
  static func programNames() throws(ProbeError) -> Set<String> {
    do throws(Failure) {
      let object = try open()
      defer { bpf_object__close(object) }
      return Set(programs(of: object).map { String(cString: bpf_program__name($0)) })
    } catch { throw notWhole }
  }

  private static func failure(_ error: Int32) -> Failure {
    // Without it the helpers that read kernel memory are missing, which leads to confusing errors.
    if let lockdown = readText("/sys/kernel/security/lockdown"), lockdown.contains("[confidentiality]") {
      return .fatal(
        ProbeError(
          "the kernel is locked down (confidentiality), which forbids probes to read it: boot with lockdown=integrity or less"
        ))
    }
    if let lacking = Capability.lacking { return .fatal(ProbeError(Probes.privilege(lacking: lacking))) }
    if error == ENOMEM {
      return .fatal(ProbeError("the kernel has no memory for the probes' maps: a smaller --kernel-buffer may help"))
    }
    if let refusal = LibraryLog.refusal { return .refused(refusal) }
    return .fatal(
      ProbeError(
        "the kernel refuses the probes: \(String(cString: strerror(error)))"
          + (LibraryLog.first.map { " (\($0))" } ?? "")))
  }

  // MARK: Data

  private func setConstants(_ values: [(name: String, value: UInt64)]) throws(Failure) {
    guard let data = bpf_object__find_map_by_name(pointer, ".rodata") else { throw .fatal(ProbeObject.notWhole) }
    var size = 0
    guard let initial = bpf_map__initial_value(data, &size) else { return }
    var constants = Array(UnsafeRawBufferPointer(start: initial, count: size))
    for (name, value) in values { set(name, value, in: &constants) }
    _ = bpf_map__set_initial_value(data, constants, size)
  }

  /// Set a constant of the programs at the offset given by the object's BTF.
  private func set(_ name: String, _ value: UInt64, in constants: inout [UInt8]) {
    guard let btf = bpf_object__btf(pointer) else { return }
    let section = btf__find_by_name_kind(btf, ".rodata", 15)  // BTF_KIND_DATASEC
    guard section > 0, let type = btf__type_by_id(btf, UInt32(section)) else { return }
    let count = Int(type.pointee.info & 0xffff)
    let variables = UnsafeRawPointer(type + 1).assumingMemoryBound(to: btf_var_secinfo.self)
    for variable in UnsafeBufferPointer(start: variables, count: count) {
      guard let entry = btf__type_by_id(btf, variable.type),
        let text = btf__name_by_offset(btf, entry.pointee.name_off), String(cString: text) == name
      else { continue }
      withUnsafeBytes(of: value.littleEndian) { bytes in
        for index in 0..<min(Int(variable.size), 8) { constants[Int(variable.offset) + index] = bytes[index] }
      }
    }
  }

  /// Let the programs emit events, or stop them.
  func record(_ isOn: Bool) throws(ProbeError) {
    // The only variable: `recording`.
    guard let map = bpf_object__find_map_by_name(pointer, ".bss") else { throw ProbeObject.notWhole }
    var key: UInt32 = 0
    var value = [UInt8](repeating: 0, count: Int(bpf_map__value_size(map)))
    value[0] = isOn ? 1 : 0
    guard bpf_map_update_elem(bpf_map__fd(map), &key, &value, 0) == 0 else {
      throw ProbeError("cannot start or stop the probes: \(String(cString: strerror(errno)))")
    }
  }

  private func makeRings(_ map: OpaquePointer, _ options: Options) throws(Failure) {
    for cpu in 0..<UInt32(options.cpus) {
      var ring = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "nvmepf_ring", 0, 0, UInt32(options.bufferBytes), nil)
      guard ring >= 0 else {
        throw .fatal(
          ProbeError(
            "no ring buffer of \(options.bufferBytes) bytes for CPU \(cpu): \(String(cString: strerror(errno)))"))
      }
      rings.append(ring)
      var key = cpu
      guard bpf_map_update_elem(bpf_map__fd(map), &key, &ring, 0) == 0 else {
        throw .fatal(ProbeError("CPU \(cpu) got no ring buffer: \(String(cString: strerror(errno)))"))
      }
    }
  }

  /// Read an element of a map into `bytes`; false if there is none.
  func read(_ name: String, key: UInt32, into bytes: inout [UInt8]) -> Bool {
    guard let map = bpf_object__find_map_by_name(pointer, name) else { return false }
    var key = key
    return bpf_map_lookup_elem(bpf_map__fd(map), &key, &bytes) == 0
  }
}
