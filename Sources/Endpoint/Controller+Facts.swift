extension Controller {
  /// Submission queues that exist, the admin queue included.
  public var submissionQueueCount: Int { liveSubmission.count }
}
