import Expressions

/// Selects commands: those for which every condition holds.
public struct CommandFilter: Sendable {
  public var conditions: [Expression<CommandValue>]

  public init(_ conditions: [Expression<CommandValue>] = []) { self.conditions = conditions }

  /// From expressions such as `qid == 1`.
  public init(_ texts: String...) throws(ExpressionError) {
    conditions = []
    for text in texts { conditions.append(try Expression(text, .commands)) }
  }

  /// No condition: every command is selected.
  public var isEmpty: Bool { conditions.isEmpty }

  /// Whether it selects a finished command.
  public func selects(_ command: CommandTimes) -> Bool {
    conditions.allSatisfy { condition in condition.holds { command.value(of: $0) } }
  }

  /// Whether it selects a command that has no end in the trace: only by what is known of it.
  public func selectsUnfinished(_ command: CommandFacts) -> Bool {
    conditions.allSatisfy { condition in condition.holds { command.value(of: $0) } }
  }
}
