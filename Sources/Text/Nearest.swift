extension String {
  /// The candidate that the text may be a mistake for: two characters may differ, in a text of up to four only one,
  /// or two that have changed places.
  public func nearest(among candidates: some Sequence<String>) -> String? {
    guard utf8.count <= 64 else { return nil }
    let wanted = Array(utf8)
    var nearest: (name: String, edits: Int)?
    for name in candidates {
      let edits = editDistance(wanted, Array(name.utf8.prefix(80)))
      if edits < nearest?.edits ?? .max { nearest = (name, edits) }
      if wanted.count == name.utf8.count, wanted.sorted() == name.utf8.sorted(), edits == 2 { nearest = (name, 1) }
    }
    guard let nearest, nearest.edits <= max(1, min(2, (wanted.count - 1) / 2)) else { return nil }
    return nearest.name
  }
}

/// Edit distance: characters to insert, delete or change.
private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  var row = Array(0...b.count)
  for (i, x) in a.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, y) in b.enumerated() {
      let above = row[j + 1]
      row[j + 1] = min(above + 1, row[j] + 1, diagonal + (x == y ? 0 : 1))
      diagonal = above
    }
  }
  return row[b.count]
}
