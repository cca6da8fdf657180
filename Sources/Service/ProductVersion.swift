/// nvmepf's own, as `--version` prints it and traces keep it.
public let productVersion = "0.1.0"

/// The commit that this build's sources were checked out from, without later changes; nil if they were no clone.
public var productCommit: String? { builtCommit }
