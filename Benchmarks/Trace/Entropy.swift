import Events
import Glibc
import Trace

/// What an ideal coder of single values would need for a trace's columns: for every column the order-0 entropy of its
/// values or of their differences, whichever is less; nothing for a column that repeats another; for the kinds of the
/// events their entropy given the four before.
func columnEntropyBytes(_ reader: TraceReader) throws(TraceError) -> Double {
  var bits = 0.0
  for stream in reader.streams {
    let columns = try Columns(reader, stream.chunks)
    bits += columns.bits
  }
  return bits / 8
}

private struct Columns {
  private var values: [Int: [UInt64]] = [:]
  private var kindContexts: [UInt64: Int] = [:]
  private var kindPairs: [UInt64: Int] = [:]

  init(_ reader: TraceReader, _ chunks: [Int]) throws(TraceError) {
    var decoded = try DecodedChunk()
    var (time, context) = (UInt64(0), UInt64(0))
    for index in chunks {
      try reader.decode(index, into: &decoded)
      let slots = decoded.slots
      var slot = 0
      while slot < slots.count {
        let record = slots[slot]
        let bytes = UnsafeRawPointer(slots.baseAddress! + slot)
        kindContexts[context, default: 0] += 1
        kindPairs[context << 8 | UInt64(record.kind), default: 0] += 1
        context = (context << 8 | UInt64(record.kind)) & 0xffff_ffff
        values[Int(record.kind) << 8, default: []].append(record.time &- time)
        time = record.time
        for (field, layout) in (reader.schema[record.kind]?.fields ?? []).enumerated() {
          values[Int(record.kind) << 8 | field + 1, default: []].append(layout.value(in: bytes))
        }
        slot += 1 + Int(record.tail)
      }
    }
  }

  var bits: Double {
    var sum = Self.bits(kindPairs.values) - Self.bits(kindContexts.values)
    var seen: Set<[UInt64]> = []
    for column in values.values where seen.insert(column).inserted {
      let differences = zip(column.dropFirst(), column).map { $0 &- $1 }
      sum += min(Self.bits(Self.counts(column).values), Self.bits(Self.counts(differences).values))
    }
    return sum
  }

  private static func counts(_ values: [UInt64]) -> [UInt64: Int] {
    var counts: [UInt64: Int] = [:]
    for value in values { counts[value, default: 0] += 1 }
    return counts
  }

  /// The entropy of all drawings together.
  private static func bits(_ counts: some Collection<Int>) -> Double {
    let total = Double(counts.reduce(0, +))
    return counts.reduce(0) { $0 + Double($1) * log2(total / Double($1)) }
  }
}
