import CPlatform
import Glibc

/// Classifies a file: fio, or something that leads to it.
public enum Program: Equatable, Sendable {
  case other
  /// A fio that can load the engine.
  case fio
  /// A fio that cannot load the engine, with the reason.
  case sealedFio(String)
  /// A script with the interpreter that the kernel uses.
  case script(interpreter: [UInt8])

  public var isFio: Bool {
    switch self {
    case .fio, .sealedFio: true
    case .other, .script: false
    }
  }

  /// Messages that occur in every fio and nothing else; spelt backwards, so that they do not occur in this program.
  private static let marks = ["denifed )s(boj oN", "s%.deliaf tini s% enigne oi :oif"].map { Array($0.utf8.reversed()) }
  /// A program of at least this size is not fio.
  private static let bytesMax = 512 << 20

  /// Classify an open file by its contents, whatever its name.
  public init(_ descriptor: Int32) {
    var status = stat()
    var head = [UInt8](repeating: 0, count: 4096)
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      self = .other
      return
    }
    head.removeSubrange(max(pread(descriptor, &head, head.count, 0), 0)...)
    if head.starts(with: Array("#!".utf8)) {
      let line = head.dropFirst(2).prefix { $0 != 0x0a }.drop { $0 == 0x20 || $0 == 0x09 }
      self = .script(interpreter: Array(line.prefix { $0 != 0x20 && $0 != 0x09 && $0 != 0 }))
    } else if head.starts(with: [0x7f, 0x45, 0x4c, 0x46]), status.st_size < Program.bytesMax,
      Program.holdsMarks(descriptor)
    {
      self = Program.obstacle(head, descriptor, status).map { .sealedFio($0) } ?? .fio
    } else {
      self = .other
    }
  }

  private static func holdsMarks(_ descriptor: Int32) -> Bool {
    let overlap = 64
    var window = [UInt8](repeating: 0, count: (1 << 20) + overlap)
    var missing = marks
    var offset = 0
    while !missing.isEmpty {
      let count = pread(descriptor, &window, window.count, offset)
      guard count > 0 else { return false }
      window.withUnsafeBytes { bytes in
        missing.removeAll { nvmepf_contains(bytes.baseAddress!, count, $0, $0.count) }
      }
      guard count > overlap else { break }
      offset += count - overlap
    }
    return missing.isEmpty
  }

  /// Why the engine, a library of this machine's architecture, cannot be preloaded into the program.
  private static func obstacle(_ head: [UInt8], _ descriptor: Int32, _ status: stat) -> String? {
    var own = [UInt8](repeating: 0, count: 20)
    let selfDescriptor = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)
    defer { close(selfDescriptor) }
    // Class and byte order, and the machine at byte 18 (System V ABI, ELF header).
    guard head.count >= 64, pread(selfDescriptor, &own, own.count, 0) == own.count, head[4] == own[4],
      head[5] == own[5], head[18...19] == own[18...19]
    else { return "it is for another architecture" }
    if !namesInterpreter(head) { return "it is statically linked" }
    if status.st_mode & (S_ISUID | S_ISGID) != 0 || nvmepf_gives_capabilities(descriptor) {
      return "it is setuid or has capabilities"
    }
    return nil
  }

  /// Whether one of the program headers is PT_INTERP. Common linkers put them into the first page.
  private static func namesInterpreter(_ head: [UInt8]) -> Bool {
    head.withUnsafeBytes { bytes in
      func number(_ offset: Int, _ size: Int) -> Int {
        guard offset >= 0, offset + size <= bytes.count else { return 0 }
        return (0..<size).reduce(0) { $0 | Int(truncatingIfNeeded: UInt64(bytes[offset + $1]) << (8 * $1)) }
      }
      let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2))
      guard start > 0, start < bytes.count, size > 0 else { return false }
      return (0..<count).contains { number(start + $0 * size, 4) == 3 }
    }
  }

  /// The same for a path; `other` if it cannot be read.
  public init(path: [UInt8]) {
    let descriptor = path.open()
    guard descriptor >= 0 else {
      self = .other
      return
    }
    defer { close(descriptor) }
    self.init(descriptor)
  }
}

extension [UInt8] {
  /// The part after the last slash.
  public var baseName: [UInt8] { lastIndex(of: 0x2f).map { Array(self[($0 + 1)...]) } ?? self }

  func withCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
    (self + [0]).withUnsafeBytes { body($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
  }

  /// The file at this path, which may be anything; -1 with errno.
  func open() -> Int32 { withCString { Glibc.open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) } }

  public var text: String { String(decoding: self, as: UTF8.self) }
}
