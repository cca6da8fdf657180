/// Groups of probes that a recording can select.
public enum ProbeGroup: String, CaseIterable, Sendable {
  /// The target core, for any transport.
  case nvmet
  /// nvmet-pci-epf.
  case endpoint
  /// The PCI endpoint core, for calls by nvmet-pci-epf.
  case window
  /// How long work items wait before they run.
  case work
  /// The NVMe host driver of this machine.
  case host
  /// The block layer above it.
  case block

  /// Its name for users, the origin of its probes' events (nil if they emit none), and the module whose types they read,
  /// with one of these types (nil for types of the kernel itself).
  private var facts: (title: String, role: Origin.Role?, needs: (module: String, type: String)?) {
    let driver = ("nvmet_pci_epf", "nvmet_pci_epf_iod")
    return switch self {
    case .nvmet: ("target core (nvmet)", .target, ("nvmet", "nvmet_req"))
    case .endpoint: ("nvmet-pci-epf", .target, driver)
    case .window: ("PCI endpoint core", .target, driver)
    case .work: ("work items", nil, driver)
    case .host: ("host driver (nvme)", .host, ("nvme_core", "nvme_request"))
    case .block: ("block layer", .host, nil)
    }
  }

  /// Its name for users.
  public var title: String { facts.title }
  var role: Origin.Role? { facts.role }
  var needs: (module: String, type: String)? { facts.needs }
}

/// A function's declaration, as far as its programs depend on it: they access arguments by number.
struct Prototype: Equatable {
  let arguments: Int
  let returns: Bool
  /// Suffix of the names of the programs for this declaration.
  let suffix: String

  init(_ arguments: Int, returns: Bool = false, suffix: String = "") {
    (self.arguments, self.returns, self.suffix) = (arguments, returns, suffix)
  }

  enum Choice: Equatable {
    case programs(suffix: String)
    case obstacle(String)
  }

  /// Choose the programs that fit a function.
  ///
  /// - Parameters:
  ///   - known: declarations in kernels so far, the newest first.
  ///   - found: the declaration in this kernel; nil without BTF.
  static func choose(_ known: [Prototype], found: Prototype?) -> Choice {
    guard let found else {
      return known.count == 1
        ? .programs(suffix: known[0].suffix)
        : .obstacle("BTF does not describe it, and kernels declare it in \(known.count) ways")
    }
    guard let fitting = known.first(where: { $0.arguments == found.arguments }) else {
      let numbers = known.map { String($0.arguments) }.joined(separator: " or ")
      return .obstacle("it has \(found.arguments) arguments instead of \(numbers)")
    }
    guard found.returns || !fitting.returns else { return .obstacle("it returns nothing in this kernel") }
    return .programs(suffix: fitting.suffix)
  }
}

/// A probe point in the kernel: defines what a recording can contain, and the cost of missing it.
struct ProbePoint {
  enum Place {
    case function(String)
    case tracepoint(String)

    var name: String {
      switch self {
      case .function(let name), .tracepoint(let name): name
      }
    }
  }

  let place: Place
  let group: ProbeGroup
  /// What it adds to a trace.
  let gives: String
  /// Its types are in a module of their own, not in the group's.
  var needs: (module: String, type: String)?
  /// Declarations of the function in kernels so far, the newest first.
  var prototypes: [Prototype] = []
  /// A compiler may inline it: its address is not taken, and no other file calls it.
  var mayBeInlined = false

  /// A function called through a pointer or from another file.
  static func function(_ name: String, _ group: ProbeGroup, _ prototypes: Prototype..., gives: String) -> ProbePoint {
    ProbePoint(place: .function(name), group: group, gives: gives, prototypes: prototypes)
  }

  /// A function used in one file only.
  static func helper(_ name: String, _ group: ProbeGroup, _ prototype: Prototype, gives: String) -> ProbePoint {
    ProbePoint(place: .function(name), group: group, gives: gives, prototypes: [prototype], mayBeInlined: true)
  }

  static func tracepoint(_ name: String, _ group: ProbeGroup, _ gives: String) -> ProbePoint {
    ProbePoint(place: .tracepoint(name), group: group, gives: gives)
  }

  static let all: [ProbePoint] = [
    .tracepoint("nvmet_req_init", .nvmet, "request: the target core accepts a command"),
    .function("nvmet_bdev_execute_rw", .nvmet, Prototype(1), gives: "execute begins, on a block device"),
    .function("nvmet_file_execute_rw", .nvmet, Prototype(1), gives: "execute begins, on a file"),
    .tracepoint("nvmet_req_complete", .nvmet, "execute ends"),
    .tracepoint("nvmet_async_event", .nvmet, "asynchronous events"),

    .helper(
      "nvmet_pci_epf_dma_transfer", .endpoint, Prototype(3, returns: true),
      gives: "fetch, lists and data segments by DMA"),
    .helper(
      "nvmet_pci_epf_mmio_transfer", .endpoint, Prototype(3, returns: true),
      gives: "fetch, lists and data segments through windows"),
    .function("nvmet_pci_epf_exec_iod_work", .endpoint, Prototype(1), gives: "dispatch"),
    .function("nvmet_pci_epf_queue_response", .endpoint, Prototype(1), gives: "response"),
    .helper("nvmet_pci_epf_complete_iod", .endpoint, Prototype(1), gives: "complete begins"),
    .function("nvmet_pci_epf_cq_work", .endpoint, Prototype(1), gives: "the completion queue's work"),
    .helper("nvmet_pci_epf_free_iod", .endpoint, Prototype(1), gives: "completion queue entries, and dropped commands"),
    .helper("nvmet_pci_epf_raise_irq", .endpoint, Prototype(3), gives: "interrupts considered"),
    .function("nvmet_pci_epf_create_cq", .endpoint, Prototype(6, returns: true), gives: "completion queues created"),
    .function("nvmet_pci_epf_delete_cq", .endpoint, Prototype(2, returns: true), gives: "completion queues deleted"),
    .function(
      "nvmet_pci_epf_create_sq", .endpoint, Prototype(6, returns: true),
      Prototype(5, returns: true, suffix: "_5"), gives: "submission queues created"),
    .function("nvmet_pci_epf_delete_sq", .endpoint, Prototype(2, returns: true), gives: "submission queues deleted"),
    .function("nvmet_pci_epf_poll_cc_work", .endpoint, Prototype(1), gives: "CC and CSTS"),
    .function("nvmet_pci_epf_link_up", .endpoint, Prototype(1, returns: true), gives: "link up"),
    .function("nvmet_pci_epf_link_down", .endpoint, Prototype(1, returns: true), gives: "link down"),

    .function("pci_epc_raise_irq", .window, Prototype(5, returns: true), gives: "interrupts raised"),
    .function("pci_epc_mem_map", .window, Prototype(6, returns: true), gives: "windows mapped"),
    .function("pci_epc_mem_unmap", .window, Prototype(4), gives: "windows unmapped"),

    .tracepoint("workqueue_queue_work", .work, "from queued to running"),

    .tracepoint("nvme_setup_cmd", .host, "the host's submissions, with their entries"),
    ProbePoint(
      place: .function("nvme_queue_rq"), group: .host, gives: "the host's doorbells", needs: ("nvme", "nvme_queue"),
      prototypes: [Prototype(2, returns: true)]),
    ProbePoint(
      place: .function("nvme_commit_rqs"), group: .host, gives: "the host's doorbells of batches",
      needs: ("nvme", "nvme_queue"), prototypes: [Prototype(1)]),
    ProbePoint(
      place: .function("nvme_irq"), group: .host, gives: "the host's interrupts", needs: ("nvme", "nvme_queue"),
      prototypes: [Prototype(2)]),
    ProbePoint(
      place: .tracepoint("nvme_sq"), group: .host, gives: "positions in the host's submission queues",
      needs: ("nvme", "nvme_queue")),
    .tracepoint("nvme_complete_rq", .host, "the host's completions"),

    .tracepoint("block_rq_issue", .block, "requests of the block layer"),
    .tracepoint("block_rq_complete", .block, "their completion"),
  ]
}

/// A stage of a command of nvmet-pci-epf, and the probes it requires.
public enum KernelStage: String, CaseIterable, Sendable {
  case detect, fetch, dispatch, map
  case dataIn = "data-in"
  case execute
  case dataOut = "data-out"
  case complete, interrupt, reap

  /// Each of these, or its alternative.
  private var needs: [[String]] {
    let transfer = ["nvmet_pci_epf_dma_transfer", "nvmet_pci_epf_mmio_transfer"]
    return switch self {
    // It ends where the fetch begins; it begins with the host's submission.
    case .detect: [["nvme_setup_cmd"], transfer]
    case .fetch, .dataIn, .dataOut: [transfer]
    case .dispatch: [transfer, ["nvmet_pci_epf_exec_iod_work"]]
    case .map: [["nvmet_pci_epf_exec_iod_work"], ["nvmet_req_init"]]
    case .execute: [["nvmet_req_init"], ["nvmet_req_complete"]]
    case .complete: [["nvmet_pci_epf_complete_iod"], ["nvmet_pci_epf_cq_work"], ["nvmet_pci_epf_free_iod"]]
    case .interrupt: [["nvmet_pci_epf_free_iod"], ["pci_epc_raise_irq"]]
    case .reap: [["pci_epc_raise_irq"], ["nvme_complete_rq"]]
    }
  }

  /// Whether a recording will have it.
  public func isRecorded(by points: [Probes.Point]) -> Bool {
    let attached = Set(points.filter(\.isAttached).map(\.name))
    return needs.allSatisfy { !attached.isDisjoint(with: $0) }
  }
}
