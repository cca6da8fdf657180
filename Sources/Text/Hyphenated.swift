extension String {
  /// `setFeatures` as "set-features": the name of an enumeration's case, as reports write it.
  public var hyphenated: String {
    let characters = Array(self)
    return characters.indices.map { place in
      let isFollowedByLower = place + 1 < characters.count && characters[place + 1].isLowercase
      let beginsWord =
        place > 0 && characters[place].isUppercase && (characters[place - 1].isLowercase || isFollowedByLower)
      return (beginsWord ? "-" : "") + characters[place].lowercased()
    }.joined()
  }
}
