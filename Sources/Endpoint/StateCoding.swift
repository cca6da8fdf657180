import Text

typealias StateInteger = FixedWidthInteger & BitwiseCopyable

/// Writes, hashes or reads each field that a walk over the engine's state visits. They share the walk, so they cannot
/// disagree on the layout.
protocol StateCoder {
  /// `Never` where the state is only visited.
  associatedtype Failure: Error

  /// Whether the walk sets the fields; otherwise it leaves them unchanged.
  static var reads: Bool { get }

  /// An integer, little-endian.
  mutating func code<Value: StateInteger>(_ name: StaticString, _ value: inout Value) throws(Failure)
  /// A text: its length in 2 bytes, then UTF-8.
  mutating func code(_ name: StaticString, _ text: inout String) throws(Failure)

  /// The fields until `leave` belong to this object; a number distinguishes objects of the same kind.
  mutating func enter(_ name: StaticString, _ number: Int?)
  /// The same, with the number as a field.
  mutating func enter<Key: StateInteger>(_ name: StaticString, key: inout Key) throws(Failure)
  mutating func leave()

  /// Refuse the checkpoint unless the condition holds.
  func check(_ holds: Bool) throws(Failure)
}

extension StateCoder {
  mutating func code<A: StateInteger, B: StateInteger>(
    _ nameA: StaticString, _ a: inout A, _ nameB: StaticString, _ b: inout B
  ) throws(Failure) {
    try code(nameA, &a)
    try code(nameB, &b)
  }

  mutating func code<A: StateInteger, B: StateInteger, C: StateInteger, D: StateInteger>(
    _ nameA: StaticString, _ a: inout A, _ nameB: StaticString, _ b: inout B,
    _ nameC: StaticString, _ c: inout C, _ nameD: StaticString, _ d: inout D
  ) throws(Failure) {
    try code(nameA, &a, nameB, &b)
    try code(nameC, &c, nameD, &d)
  }

  /// One byte, 1 or 0.
  mutating func code(_ name: StaticString, _ value: inout Bool) throws(Failure) {
    var byte: UInt8 = value ? 1 : 0
    try code(name, &byte)
    try check(byte <= 1)
    value = byte == 1
  }

  mutating func code<Value: RawRepresentable>(_ name: StaticString, _ value: inout Value) throws(Failure)
  where Value.RawValue: StateInteger {
    var raw = value.rawValue
    try code(name, &raw)
    let known = Value(rawValue: raw)
    try check(known != nil)
    value = known ?? value
  }

  /// Whether there is a value, then the value or 0.
  mutating func code<Value: StateInteger>(_ name: StaticString, _ value: inout Value?) throws(Failure) {
    var (isThere, known) = (value != nil, value ?? 0)
    enter(name, nil)
    try code("is set", &isThere)
    try code("value", &known)
    leave()
    value = isThere ? known : nil
  }

  /// The number of elements that follow.
  mutating func count(_ name: StaticString, _ count: Int, limit: Int) throws(Failure) -> Int {
    var number = UInt32(count)
    try code(name, &number)
    try check(number <= limit)
    return Int(number)
  }

  /// The number of elements, then each element.
  mutating func list<Element>(
    _ name: StaticString, _ each: StaticString, _ elements: inout [Element], limit: Int, new: Element,
    _ body: (inout Self, inout Element) throws(Failure) -> Void
  ) throws(Failure) {
    for place in 0..<(try count(name, elements.count, limit: limit)) {
      var element = Self.reads ? new : elements[place]
      enter(each, place)
      try body(&self, &element)
      leave()
      if Self.reads { elements.append(element) }
    }
  }

  /// The number of entries, then each entry by ascending key, since a dictionary has no order.
  mutating func table<Value>(
    _ name: StaticString, _ each: StaticString, _ values: inout [UInt32: Value], limit: UInt32, new: Value,
    _ body: (inout Self, inout Value) throws(Failure) -> Void
  ) throws(Failure) {
    let sorted = values.sorted { $0.key < $1.key }
    for place in 0..<(try count(name, sorted.count, limit: Int(limit))) {
      var (key, value) = Self.reads ? (0, new) : sorted[place]
      try enter(each, key: &key)
      try body(&self, &value)
      leave()
      if Self.reads { values[key] = value }
    }
  }
}

/// Takes the fields of a state one after another, and leaves them unchanged.
protocol StateSink: StateCoder where Failure == Never {}

extension StateSink {
  static var reads: Bool { false }

  mutating func code(_ name: StaticString, _ text: inout String) {
    var length = UInt16(text.utf8.count)
    code(name, &length)
    for var byte in text.utf8 { code(name, &byte) }
  }

  func enter(_ name: StaticString, _ number: Int?) {}
  mutating func enter<Key: StateInteger>(_ name: StaticString, key: inout Key) { code(name, &key) }
  func leave() {}
  func check(_ holds: Bool) {}
}

/// Writes fields one after another.
struct StateWriter: StateSink {
  private let bytes: UnsafeMutableRawBufferPointer
  private(set) var count = 0

  init(_ bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }

  @inline(__always)
  mutating func code<Value: StateInteger>(_ name: StaticString, _ value: inout Value) {
    bytes.storeBytes(of: value.littleEndian, toByteOffset: count, as: Value.self)
    count += MemoryLayout<Value>.size
  }
}

/// Why bytes cannot be read as a checkpoint.
public enum CheckpointError: Error {
  /// No engine writes these bytes.
  case invalid
  /// A layout that this version does not know.
  case unknownVersion(UInt16)
}

/// Reads the bytes of a `StateWriter`, which are not trusted.
struct StateReader: StateCoder {
  static let reads = true
  private let bytes: UnsafeRawBufferPointer
  private var offset = 0
  /// The fields read so far, if requested.
  private(set) var fields: [StateField]?
  /// The objects that the next field belongs to, outermost first.
  private var owners: [String] = []

  init(_ bytes: UnsafeRawBufferPointer, namesFields: Bool = false) {
    self.bytes = bytes
    fields = namesFields ? [] : nil
  }

  var isAtEnd: Bool { offset == bytes.count }

  mutating func code<Value: StateInteger>(_ name: StaticString, _ value: inout Value) throws(CheckpointError) {
    value = try read()
    // Most large numbers are addresses and registers.
    note(name, MemoryLayout<Value>.size, value < Int(1 << 16) ? "\(value)" : value.hex)
  }

  mutating func code(_ name: StaticString, _ text: inout String) throws(CheckpointError) {
    let length = Int(try read() as UInt16)
    try check(bytes.count - offset >= length)
    text = String(decoding: bytes[offset..<offset + length], as: UTF8.self)
    offset += length
    note(name, 2 + length, "\"\(text)\"")
  }

  mutating func enter(_ name: StaticString, _ number: Int?) {
    if fields != nil { owners.append(number.map { "\(name) \($0)" } ?? "\(name)") }
  }

  mutating func enter<Key: StateInteger>(_ name: StaticString, key: inout Key) throws(CheckpointError) {
    key = try read()
    enter(name, Int(key))
    note("", MemoryLayout<Key>.size, "\(key)")
  }

  mutating func leave() { _ = owners.popLast() }

  func check(_ holds: Bool) throws(CheckpointError) { guard holds else { throw .invalid } }

  private mutating func read<Value: StateInteger>() throws(CheckpointError) -> Value {
    guard bytes.count - offset >= MemoryLayout<Value>.size else { throw .invalid }
    defer { offset += MemoryLayout<Value>.size }
    return Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
  }

  private mutating func note(_ name: StaticString, _ length: Int, _ value: @autoclosure () -> String) {
    guard fields != nil else { return }
    let path = (owners + ["\(name)"]).filter { !$0.isEmpty }.joined(separator: ", ")
    fields?.append(StateField(path: path, offset: offset - length, length: length, value: value()))
  }
}

/// A field of a checkpoint.
public struct StateField: Sendable {
  /// For example `completion queue 1, head`.
  public let path: String
  /// Offset of its first byte in the checkpoint.
  public let offset: Int
  /// Length in bytes.
  public let length: Int
  /// A number, or a text in quotation marks.
  public let value: String
}
