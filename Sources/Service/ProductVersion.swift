/// nvmepf's own, as `--version` prints it and traces keep it.
public let productVersion = "0.1.0"
