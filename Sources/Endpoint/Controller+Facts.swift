extension Controller {
  /// Existing submission queues, including the admin queue.
  public var submissionQueueCount: Int { liveSubmission.count }
}
