import Host
import Live
import Trace
import VFIOUser
import Glibc
import CPlatform
@main struct M {
  static func main() throws {
    let rec = CommandLine.arguments.contains("rec")
    let depth = Int(CommandLine.arguments[1])!
    var conf = EndpointConfiguration(backend: CommandLine.arguments.contains("mem") ? .memory : .null, bytes: 1<<30, ioQueuesMax: 4)
    conf.core = 0
    var er: EndpointRecording? = nil
    if rec { 
      let r = try Ring(creating: "/dev/shm/x\(getpid()).ring", capacity: 1<<18, source: .engine, stream: 0, traceID: .random())
      er = EndpointRecording(ring: r, ticksPerSecond: UInt64(Clock.measureTicksPerSecond()))
      _ = WorkerThread(name: "drain") { var c = RingConsumer(r); while true { let a = try! c.available(); if a.count > 0 { c.free(a.count) } else {usleep(200)} } }
    }
    let server = try Server(path: "/tmp/x\(getpid()).sock")
    let f = try EndpointFunction(conf, recording: er)
    let t = WorkerThread(name: "serve") { _ = try? server.serve(f) }
    let stop = StopFlag()
    let pid = nvmepf_fork()
    if pid == 0 {
      nvmepf_pin_thread(1)
      let h = try HostController(path: server.path)
      for _ in 0..<4 {
      let r = try Workload(pattern: .randread, blockBytes: 4096, depth: depth, length: .seconds(1)).run(on: h, stop: stop)
      print("\(r.commands) commands \(Double(r.ns)/Double(r.commands)) ns each, errors \(r.errors)")
      }
      exit(0)
    }
    t.join()
    unlink("/dev/shm/x\(getpid()).ring"); unlink(server.path)
  }
}
