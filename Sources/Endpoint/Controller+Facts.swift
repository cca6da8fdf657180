extension Controller {
  /// Existing submission queues, including the admin queue.
  public var submissionQueueCount: Int { liveSubmission.count }
  /// Commands between fetch and posting, other than event requests.
  public var commandsInFlight: Int { Controller.commandsMax - slots.freeCount - eventRequests.count }
}
