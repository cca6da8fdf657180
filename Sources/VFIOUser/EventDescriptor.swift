import Glibc

/// What a client sends to be told of interrupts through.
enum EventDescriptor {
  /// Whether it is an eventfd: nothing else takes eight bytes at once, and without a SIGPIPE.
  ///
  /// Its flags are left as they are. O_NONBLOCK belongs to the client as well: one that waits in `read` would no longer
  /// wait, and one that means harm would take the flag away again.
  static func isValid(_ descriptor: Int32) -> Bool {
    var status = stat()
    // An anonymous inode has no type: that rules out pipes, sockets and files, also where there is no /proc.
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == 0 else { return false }
    var name = [UInt8](repeating: 0, count: 64)
    let count = name.withUnsafeMutableBytes {
      readlink("/proc/self/fd/\(descriptor)", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
    }
    return count < 0 || name[..<count].elementsEqual("anon_inode:[eventfd]".utf8)
  }
}
