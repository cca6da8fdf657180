/// What a recording of the kernel can be asked for.
public enum ProbeGroup: String, CaseIterable, Sendable {
  /// The target core, whatever the transport.
  case nvmet
  /// nvmet-pci-epf.
  case endpoint
  /// The PCI endpoint core, as far as nvmet-pci-epf calls it.
  case window
  /// How long work items wait until they run.
  case work
  /// The NVMe driver of a host on this machine.
  case host
  /// The block layer above it.
  case block

  /// The module whose types its probes read, and one of these types; nil for types of the kernel itself.
  var needs: (module: String, type: String)? {
    switch self {
    case .nvmet: ("nvmet", "nvmet_req")
    case .endpoint, .window, .work: ("nvmet_pci_epf", "nvmet_pci_epf_iod")
    case .host: ("nvme_core", "nvme_request")
    case .block: nil
    }
  }
}

/// A place in the kernel that is looked at: the definition of what a recording can hold and of what it costs to miss it.
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
  /// What a trace has by it.
  let gives: String
  /// Its types lie in a module of their own, not in the group's.
  var needs: (module: String, type: String)?

  static func function(_ name: String, _ group: ProbeGroup, _ gives: String) -> ProbePoint {
    ProbePoint(place: .function(name), group: group, gives: gives)
  }

  static func tracepoint(_ name: String, _ group: ProbeGroup, _ gives: String) -> ProbePoint {
    ProbePoint(place: .tracepoint(name), group: group, gives: gives)
  }

  static let all: [ProbePoint] = [
    .tracepoint("nvmet_req_init", .nvmet, "request: the target core takes a command"),
    .function("nvmet_bdev_execute_rw", .nvmet, "execute begins, on a block device"),
    .function("nvmet_file_execute_rw", .nvmet, "execute begins, on a file"),
    .tracepoint("nvmet_req_complete", .nvmet, "execute ends"),
    .tracepoint("nvmet_async_event", .nvmet, "asynchronous events"),

    .function("nvmet_pci_epf_dma_transfer", .endpoint, "fetch, lists and data segments by DMA"),
    .function("nvmet_pci_epf_mmio_transfer", .endpoint, "fetch, lists and data segments through windows"),
    .function("nvmet_pci_epf_exec_iod_work", .endpoint, "dispatch"),
    .function("nvmet_pci_epf_transfer_iod_data", .endpoint, "data segments told from lists"),
    .function("nvmet_pci_epf_queue_response", .endpoint, "response"),
    .function("nvmet_pci_epf_complete_iod", .endpoint, "complete begins"),
    .function("nvmet_pci_epf_cq_work", .endpoint, "the completion queue's work"),
    .function("nvmet_pci_epf_free_iod", .endpoint, "completion queue entries, and commands given up"),
    .function("nvmet_pci_epf_raise_irq", .endpoint, "interrupts considered"),
    .function("nvmet_pci_epf_create_cq", .endpoint, "completion queues created"),
    .function("nvmet_pci_epf_delete_cq", .endpoint, "completion queues deleted"),
    .function("nvmet_pci_epf_create_sq", .endpoint, "submission queues created"),
    .function("nvmet_pci_epf_delete_sq", .endpoint, "submission queues deleted"),
    .function("nvmet_pci_epf_poll_cc_work", .endpoint, "CC and CSTS"),
    .function("nvmet_pci_epf_link_up", .endpoint, "link up"),
    .function("nvmet_pci_epf_link_down", .endpoint, "link down"),

    .function("pci_epc_raise_irq", .window, "interrupts raised"),
    .function("pci_epc_mem_map", .window, "windows mapped"),
    .function("pci_epc_mem_unmap", .window, "windows unmapped"),

    .tracepoint("workqueue_queue_work", .work, "from queued to running"),

    .tracepoint("nvme_setup_cmd", .host, "the host's submissions"),
    ProbePoint(
      place: .function("nvme_queue_rq"), group: .host, gives: "the host's doorbells", needs: ("nvme", "nvme_queue")),
    ProbePoint(
      place: .function("nvme_commit_rqs"), group: .host, gives: "the host's doorbells of batches",
      needs: ("nvme", "nvme_queue")),
    ProbePoint(
      place: .function("nvme_irq"), group: .host, gives: "the host's interrupts", needs: ("nvme", "nvme_queue")),
    .tracepoint("nvme_complete_rq", .host, "the host's completions"),

    .tracepoint("block_rq_issue", .block, "requests of the block layer"),
    .tracepoint("block_rq_complete", .block, "their completion"),
  ]
}
