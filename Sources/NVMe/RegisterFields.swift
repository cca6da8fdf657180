/// A controller property of BAR 0 (Base 2.1, 3.1.4; PCIe Transport 1.1, 3.1.2): its name and the fields of its value.
public struct RegisterLayout: Sendable {
  /// As in the specification: `CC`.
  public let name: String
  public let offset: UInt64
  /// 4 or 8 bytes.
  public let width: UInt64
  public let fields: [Field]

  /// Bits of a value.
  public struct Field: Sendable {
    public let name: String
    let shift: UInt64
    let bits: UInt64

    public func value(in register: UInt64) -> UInt64 { register >> shift & (1 << bits - 1) }
  }

  private init(_ name: String, _ offset: UInt64, _ width: UInt64, _ fields: [(String, UInt64, UInt64)] = []) {
    (self.name, self.offset, self.width) = (name, offset, width)
    self.fields = fields.map { Field(name: $0.0, shift: $0.1, bits: $0.2) }
  }

  /// The property that an access at this offset reaches; nil for doorbells and reserved offsets.
  public static func at(_ offset: UInt64) -> RegisterLayout? {
    all.first { $0.offset <= offset && offset < $0.offset + $0.width }
  }

  public static let csts = RegisterLayout(
    "CSTS", Register.csts, 4, [("RDY", 0, 1), ("CFS", 1, 1), ("SHST", 2, 2), ("NSSRO", 4, 1), ("PP", 5, 1)])

  /// Every property, in order of its offset.
  public static let all = [
    RegisterLayout(
      "CAP", Register.cap, 8,
      [
        ("MQES", 0, 16), ("CQR", 16, 1), ("AMS", 17, 2), ("TO", 24, 8), ("DSTRD", 32, 4), ("NSSRS", 36, 1),
        ("CSS", 37, 8), ("BPS", 45, 1), ("CPS", 46, 2), ("MPSMIN", 48, 4), ("MPSMAX", 52, 4), ("PMRS", 56, 1),
        ("CMBS", 57, 1), ("NSSS", 58, 1), ("CRMS", 59, 2),
      ]),
    RegisterLayout("VS", Register.vs, 4, [("MJR", 16, 16), ("MNR", 8, 8), ("TER", 0, 8)]),
    RegisterLayout("INTMS", Register.intms, 4),
    RegisterLayout("INTMC", Register.intmc, 4),
    RegisterLayout(
      "CC", Register.cc, 4,
      [
        ("EN", 0, 1), ("CSS", 4, 3), ("MPS", 7, 4), ("AMS", 11, 3), ("SHN", 14, 2), ("IOSQES", 16, 4),
        ("IOCQES", 20, 4), ("CRIME", 24, 1),
      ]),
    csts,
    RegisterLayout("NSSR", Register.nssr, 4),
    RegisterLayout("AQA", Register.aqa, 4, [("ASQS", 0, 12), ("ACQS", 16, 12)]),
    RegisterLayout("ASQ", Register.asq, 8),
    RegisterLayout("ACQ", Register.acq, 8),
    RegisterLayout("CMBLOC", 0x38, 4),
    RegisterLayout("CMBSZ", 0x3c, 4),
    RegisterLayout("BPINFO", 0x40, 4),
    RegisterLayout("BPRSEL", 0x44, 4),
    RegisterLayout("BPMBL", 0x48, 8),
    RegisterLayout("CMBMSC", 0x50, 8),
    RegisterLayout("CMBSTS", 0x58, 4),
    RegisterLayout("NSSD", 0x64, 4),
    RegisterLayout("CRTO", Register.crto, 4, [("CRWMT", 0, 16), ("CRIMT", 16, 16)]),
  ]
}
