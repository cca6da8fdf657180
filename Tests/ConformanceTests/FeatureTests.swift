import Backends
import NVMe
import Target
import Testing

extension Conformance {
  @Suite("Features", .serialized)
  struct FeatureTests {
    @Test(
      "Base 5.1.25: set, read back, and back to the default after a reset",
      arguments: [
        (0x01, 0x0102_0305, 3), (0x04, 0x140, 0x157), (0x05, 7, 0), (0x06, 0, 1), (0x08, 0x0304, 7),
        (0x09, 0x1_0001, 1), (0x0a, 1, 0), (0x0b, 0x1ff, 0x100), (0x0f, 5000, 0),
      ] as [(UInt8, UInt32, UInt32)])
    func keeps(id: UInt8, value: UInt32, initial: UInt32) throws {
      try withEndpoint { rig in
        try rig.enable()
        let cdw11: UInt32 = id == 0x09 ? 1 : 0
        let nsid: UInt32 = id == 0x05 ? 1 : 0
        for round in 0..<2 {
          // A vector has a configuration when a queue has the vector.
          _ = try rig.createCompletion(1, vector: 1)
          let before = try rig.getFeature(id, nsid: nsid, cdw11: cdw11)
          #expect(before.dw0 == initial, "round \(round)")
          expect(try rig.setFeature(id, value, nsid: nsid).status, .success)
          let after = try rig.getFeature(id, nsid: nsid, cdw11: cdw11)
          #expect(after.dw0 == value)
          for select in [1, 2] as [UInt32] {
            let other = try rig.getFeature(id, select: select, nsid: nsid, cdw11: cdw11)
            #expect(other.dw0 == initial, "default and saved")
          }
          let capabilities = try rig.getFeature(id, select: 3, nsid: nsid, cdw11: cdw11)
          #expect(capabilities.dw0 & 1 == 0, "not saveable")
          #expect(capabilities.dw0 & 4 == 4, "changeable")
          expect(try rig.setFeature(id, value, nsid: nsid, save: true).status, .featureIdentifierNotSaveable)
          try rig.disable()
          try rig.enable()
        }
      }
    }

    @Test("Base 5.1.25: unsupported features and values")
    func refuses() throws {
      try withEndpoint { rig in
        try rig.enable()
        for id in [0x00, 0x03, 0x0c, 0x0d, 0x10, 0x80, 0xc0, 0xff] as [UInt8] {
          expect(try rig.getFeature(id).status, .invalidField, "feature \(id)")
          expect(try rig.setFeature(id, 0).status, .invalidField, "feature \(id)")
        }
        expect(try rig.getFeature(0x01, select: 4).status, .invalidField)
        expect(try rig.setFeature(0x02, 1).status, .invalidField, "there is one power state")
        expect(try rig.setFeature(0x04, 1 << 16 | 300).status, .invalidField, "one temperature sensor")
        expect(try rig.setFeature(0x05, 1 << 16, nsid: 1).status, .invalidField, "no DULBE")
        expect(try rig.setFeature(0x05, 1).status, .invalidNamespaceOrFormat, "each namespace has its own")
        expect(try rig.setFeature(0x0b, 1 << 14).status, .invalidField, "no endurance groups")
        expect(try rig.setFeature(0x09, 1).status, .invalidField, "no queue has that vector")
        expect(try rig.setFeature(0x07, 0xffff_ffff).status, .invalidField)
        expect(try rig.setFeature(0x09, 5).status, .invalidField, "no such vector")
        expect(try rig.setFeature(0x01, 0, nsid: 1).status, .featureNotNamespaceSpecific)
        expect(try rig.setFeature(0x84, 1).status, .invalidNamespaceOrFormat)
        expect(try rig.setFeature(0x84, 2, nsid: 1).status, .invalidField)
        expect(try rig.setFeature(0x82, 2, nsid: 1).status, .invalidField, "no reservations")
      }
    }

    @Test("Base 5.1.25.1.4: error recovery is set for one namespace or for all")
    func errorRecovery() throws {
      try withEndpoint(endpoint { $0.namespaces.append(.init(nsid: 2, backend: .memory(bytes: 1 << 20))) }) { rig in
        try rig.enable()
        let both = { try [1, 2].map { try rig.getFeature(0x05, nsid: $0).dw0 } }
        expect(try rig.setFeature(0x05, 7, nsid: 1).status, .success)
        #expect(try both() == [7, 0])
        expect(try rig.setFeature(0x05, 9, nsid: .max).status, .success)
        #expect(try both() == [9, 9])
        expect(try rig.getFeature(0x05, nsid: .max).status, .invalidField)
      }
    }

    @Test("Base 5.1.11: Get of a namespace's feature without a namespace returns the value of the first")
    func namesNoNamespace() throws {
      let all = endpoint {
        $0.namespaces = ([5, 7] as [UInt32]).map {
          var namespace = NamespaceConfiguration(nsid: $0, backend: .memory(bytes: 1 << 20))
          namespace.hasReservations = true
          return namespace
        }
      }
      try withEndpoint(all) { rig in
        try rig.enable()
        for (id, value) in [(0x05, 9), (0x82, 2), (0x84, 1)] as [(UInt8, UInt32)] {
          expect(try rig.setFeature(id, value, nsid: 5).status, .success)
          let read = try rig.getFeature(id)
          expect(read.status, .success, "feature \(id)")
          #expect(read.dw0 == value)
          #expect(try rig.getFeature(id, select: 3).dw0 & 2 == 2, "it is a namespace's")
          expect(try rig.setFeature(id, value).status, .invalidNamespaceOrFormat, "feature \(id)")
        }
        for nsid in [5, 7] as [UInt32] { try rig.endpoint.function.remove(nsid: nsid) }
        for id in [0x05, 0x82, 0x84] as [UInt8] {
          let read = try rig.getFeature(id)
          expect(read.status, .success)
          #expect(read.dw0 == 0, "there is no namespace")
        }
      }
    }

    @Test("Base 5.1.25.1.14: Host Behavior Support keeps the host's settings until a reset")
    func hostBehavior() throws {
      try withEndpoint { rig in
        try rig.enable()
        let data = try rig.buffer()
        for round in 0..<2 {
          data.fill(0xff, count: 512)
          expect(try rig.getFeature(0x16, data: data).status, .success)
          #expect(data.bytes(512).allSatisfy { $0 == 0 }, "round \(round)")
          // ACRE and HDISNS; what is reserved is not kept.
          data.fill(0xff, at: 6, count: 506)
          for place in [0, 3] { data.put(1 as UInt8, at: place) }
          expect(try rig.setFeature(0x16, 0, data: data).status, .success)
          data.fill(0xff, count: 512)
          expect(try rig.getFeature(0x16, data: data).status, .success)
          #expect(data.bytes(512) == [1, 0, 0, 1] + [UInt8](repeating: 0, count: 508))
          for (place, value) in [(0, 2), (2, 0xff), (4, 1 << 2), (5, 1)] as [(Int, UInt8)] {
            data.fill(0, count: 512)
            data.put(value, at: place)
            expect(try rig.setFeature(0x16, 0, data: data).status, .invalidField, "byte \(place)")
          }
          expect(try rig.getFeature(0x16, select: 1, data: data).status, .success)
          #expect(data.bytes(512).allSatisfy { $0 == 0 }, "the default")
          try rig.disable()
          try rig.enable()
        }
      }
    }

    @Test("Base 5.1.25.1.3: temperature thresholds, over and under")
    func temperatures() throws {
      try withEndpoint { rig in
        try rig.enable()
        _ = try rig.setFeature(0x04, 1 << 20 | 280)
        let (over, under) = try (rig.getFeature(0x04).dw0, rig.getFeature(0x04, cdw11: 1 << 20).dw0)
        #expect(over == 0x157 && under == 280)
      }
    }

    @Test("Base 5.1.25.1.3: the number of queues is negotiated before queues exist")
    func numberOfQueues() throws {
      try withEndpoint { rig in
        try rig.enable()
        let granted = try rig.setFeature(0x07, 63 | 63 << 16)
        let read = try rig.getFeature(0x07)
        #expect(granted.dw0 == 0x0003_0003 && read.dw0 == granted.dw0)
        _ = try rig.createCompletion(1)
        expect(try rig.setFeature(0x07, 0).status, .commandSequenceError)
      }
    }

    @Test("Base 5.1.25.1.7: the timestamp continues from the set value and reports its origin")
    func timestamp() throws {
      try withEndpoint { rig in
        try rig.enable()
        let data = try rig.buffer()
        expect(try rig.getFeature(0x0e, data: data).status, .success)
        #expect(data.get(UInt64.self) >> 48 & 0xe == 0 && data.get(UInt64.self) & 0xffff_ffff_ffff < 60_000)
        data.put(1_700_000_000_000 as UInt64, at: 0)
        expect(try rig.setFeature(0x0e, 0, data: data).status, .success)
        data.put(0 as UInt64, at: 0)
        _ = try rig.getFeature(0x0e, data: data)
        let value = data.get(UInt64.self)
        #expect((1_700_000_000_000..<1_700_000_060_000).contains(value & 0xffff_ffff_ffff) && value >> 49 & 7 == 1)
      }
    }

    @Test("Base 5.1.25.1.28: a host identifies itself once, with 8 or 16 bytes")
    func hostIdentifier() throws {
      try withEndpoint { rig in
        try rig.enable()
        let data = try rig.buffer()
        data.put(0x0123_4567_89ab_cdef as UInt64, at: 0)
        data.put(UInt64.max, at: 8)
        expect(try rig.setFeature(0x81, 0, data: data).status, .success)
        data.fill(0xff, count: 64)
        expect(try rig.getFeature(0x81, cdw11: 0, data: data).status, .success)
        #expect(data.get(UInt64.self) == 0x0123_4567_89ab_cdef && data.get(UInt64.self, at: 8) == .max, "8 bytes")
        try rig.disable()
        try rig.enable()
        data.put(0x1122_3344_5566_7788 as UInt64, at: 0)
        data.put(0x99 as UInt64, at: 8)
        expect(try rig.setFeature(0x81, 1, data: data).status, .success)
        data.put(5 as UInt64, at: 0)
        expect(try rig.setFeature(0x81, 1, data: data).status, .commandSequenceError)
        data.fill(0, count: 64)
        expect(try rig.getFeature(0x81, cdw11: 1, data: data).status, .success)
        #expect(data.get(UInt64.self) == 0x1122_3344_5566_7788 && data.get(UInt64.self, at: 8) == 0x99)
      }
    }

    @Test("Base 5.1.12: a log page that cannot be transferred does not count as read")
    func failedLogPage() throws {
      try withEndpoint { rig in
        try rig.enable()
        try rig.endpoint.function.add(
          NamespaceConfiguration(nsid: 7, backend: .null(bytes: 1 << 20, serviceTime: .none)))
        expect(try rig.logPage(4, bytes: 4096, offset: 4100).status, .invalidField, "an offset beyond its end")
        let page = try rig.logPage(4, bytes: 4096)
        #expect(page.bytes.integer(UInt32.self, at: 0) == 7)
      }
    }

    @Test("Base 5.1.25.1.3: a temperature that reaches its threshold is a warning and, if enabled, an event")
    func temperatureThreshold() throws {
      try withEndpoint { rig in
        try rig.enable()
        expect(try rig.setFeature(0x0b, 1 << 1).status, .success)
        #expect(try rig.logPage(2).bytes[0] == 0)
        let waiting = rig.submitAdmin(.asynchronousEventRequest)
        let set = rig.submitAdmin(.setFeatures) {
          $0.cdw10 = 4
          $0.cdw11 = 200 | 0xf << 16
        }
        var seen: [UInt16: UInt32] = [:]
        for _ in 0..<2 {
          let cqe = try rig.wait(for: rig.admin.completion)
          expect(cqe.status, .success)
          seen[cqe.cid.rawValue] = cqe.dw0
        }
        #expect(seen[waiting.rawValue] == 0x02_01_01 && seen[set.rawValue] != nil)
        #expect(try rig.logPage(2).bytes[0] == 1 << 1)
      }
    }

    @Test("Base 5.1.25.1.5: a condition that already holds when its notice is enabled is an event")
    func temperatureBeforeNotice() throws {
      try withEndpoint { rig in
        try rig.enable()
        expect(try rig.setFeature(0x04, 200).status, .success)
        let waiting = rig.submitAdmin(.asynchronousEventRequest)
        try rig.drain()
        #expect(rig.admin.completion.look() == nil, "nobody has asked")
        let set = rig.submitAdmin(.setFeatures) { ($0.cdw10, $0.cdw11) = (0x0b, 1 << 1) }
        let cids = try [rig.wait(for: rig.admin.completion).cid, rig.wait(for: rig.admin.completion).cid]
        #expect(Set(cids) == [waiting, set])
      }
    }
  }
}
