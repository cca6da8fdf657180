import Foundation
import Testing

@testable import Service

@Suite("Where the fio engine is")
struct FioEngineTests {
  private func make(_ path: String) throws {
    try FileManager.default.createDirectory(
      atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try Data().write(to: URL(filePath: path))
  }

  @Test("beside the executable, else in the lib/nvmepf beside its folder, else nowhere")
  func looks() throws {
    let folder = try Folder()
    let place = (folder.path as NSString).standardizingPath
    let executable = place + "/bin/nvmepf"
    #expect(FioEngine.path(executable: executable) == nil)
    try make(place + "/lib/nvmepf/nvmepf-fio.so")
    #expect(FioEngine.path(executable: executable) == place + "/lib/nvmepf/nvmepf-fio.so")
    try make(place + "/bin/nvmepf-fio.so")
    #expect(FioEngine.path(executable: executable) == place + "/bin/nvmepf-fio.so")
    withExtendedLifetime(folder) {}
  }

  @Test("the folders of an installed nvmepf")
  func names() { #expect(FioEngine.folders(executable: "/usr/bin/nvmepf") == ["/usr/bin", "/usr/lib/nvmepf"]) }
}
