import Testing
import Text

@testable import Probe

@Suite struct ProbePlanTests {
  private let known = [
    Prototype(6, returns: true), Prototype(5, returns: true, suffix: "_5"),
  ]

  @Test("The programs are those for the arguments that the kernel's function has")
  func prototypes() {
    #expect(Prototype.choose(known, found: Prototype(6, returns: true)) == .programs(suffix: ""))
    #expect(Prototype.choose(known, found: Prototype(5, returns: true)) == .programs(suffix: "_5"))
  }

  @Test("A function with other arguments or without a result is not probed, with the reason")
  func otherPrototypes() {
    #expect(
      Prototype.choose(known, found: Prototype(4, returns: true))
        == .obstacle("it has 4 arguments instead of 6 or 5"))
    #expect(
      Prototype.choose(known, found: Prototype(6)) == .obstacle("it returns nothing in this kernel"))
  }

  @Test("Without BTF only functions with a single known declaration are probed")
  func undescribed() {
    #expect(Prototype.choose([Prototype(2)], found: nil) == .programs(suffix: ""))
    guard case .obstacle = Prototype.choose(known, found: nil) else {
      Issue.record("its arguments cannot be known")
      return
    }
  }

  @Test("Every place has its programs, and every program its place")
  func programs() throws {
    var rest = try ProbeObject.programNames()
    for point in ProbePoint.all {
      switch point.place {
      case .tracepoint(let name): #expect(rest.remove("tp_\(name)") != nil)
      case .function(let name):
        #expect(!point.prototypes.isEmpty)
        for prototype in point.prototypes {
          let ways = ["entry_", "exit_", "kprobe_", "kretprobe_"]
          let own = ways.compactMap { rest.remove($0 + name + prototype.suffix) }
          #expect(!own.isEmpty, "\(name)")
        }
      }
    }
    #expect(rest == ["measure"])
  }

  @Test("The embedded object has the registers of both architectures")
  func architectures() {
    let text = String(decoding: ProbeObject.bytes, as: UTF8.self)
    #expect(text.contains("pt_regs___x86") && text.contains("pt_regs___arm64"))
  }

  @Test("The refused program is found in libbpf's messages, with the verifier's reason")
  func refusal() throws {
    let log = [
      "libbpf: elf: something harmless\n",
      "libbpf: prog 'exit_f': BPF program load failed: Permission denied\n",
      "libbpf: prog 'exit_f': -- BEGIN PROG LOAD LOG --\n0: R1=ctx() R10=fp0\n"
        + "func 'f' doesn't have 6-th argument\ninvalid bpf_context access off=40 size=8\n"
        + "processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n"
        + "-- END PROG LOAD LOG --\n",
      "libbpf: prog 'exit_f': failed to load: -13\n",
    ]
    let refusal = try #require(Refusal(log))
    #expect(refusal.program == "exit_f")
    #expect(refusal.why == "invalid bpf_context access off=40 size=8")
    let short = try #require(Refusal(["libbpf: prog 'entry_f': failed to find kernel BTF type ID of 'f': -3\n"]))
    #expect(short.program == "entry_f" && short.why == "failed to find kernel BTF type ID of 'f': -3")
    #expect(Refusal(["libbpf: failed to create map\n"]) == nil)
  }

  @Test("Missing capabilities are named; CAP_SYS_ADMIN includes those of BPF")
  func capabilities() {
    func status(_ bits: Int...) -> String {
      "Name:\tnvmepf\nCapEff:\t\(UInt64(bits.reduce(0) { $0 | 1 << $1 }).hexDigits(16))\n"
    }
    #expect(Capability.lacking(status(38, 39)) == "CAP_SYS_ADMIN, CAP_SYSLOG")
    #expect(Capability.lacking(status(34, 38, 39)) == "CAP_SYS_ADMIN")
    #expect(Capability.lacking(status()) == "CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYSLOG")
    #expect(Capability.lacking(status(21)) == nil)
  }

  @Test("A stage is recorded if all its probes, or one of the alternatives, are attached")
  func stages() {
    func points(_ names: String...) -> [Probes.Point] {
      names.map { Probes.Point(name: $0, group: .endpoint, gives: "", attachment: .fentry, missingModule: nil) }
    }
    #expect(KernelStage.fetch.isRecorded(by: points("nvmet_pci_epf_mmio_transfer")))
    #expect(!KernelStage.fetch.isRecorded(by: points("nvmet_req_init")))
    #expect(!KernelStage.execute.isRecorded(by: points("nvmet_req_init")))
    #expect(KernelStage.execute.isRecorded(by: points("nvmet_req_init", "nvmet_req_complete")))
  }
}
