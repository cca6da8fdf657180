/// The names that an expression may use, and what they stand for.
///
/// `Place` is the owner's identity of a variable: the owner gives it for each name, finds it in
/// `Expression.variables`, and is asked for its value at each evaluation.
public struct Vocabulary<Place: Hashable & Sendable>: Sendable {
  /// In the order in which errors and pages list them.
  public let definitions: [Definition]

  public init(_ definitions: [Definition]) { self.definitions = definitions }

  /// One name, or all names of a form such as `cq[N].full`.
  public struct Definition: Sendable {
    /// As written in an expression; `[]` takes an index: `qid`, `stage.execute`, `cq[].full`.
    public let name: String
    public let kind: ValueKind
    /// For people: one sentence.
    public let meaning: String
    /// The variable is the first of a range of numbers, whose last has this place: `in` then tests whether the two
    /// ranges overlap.
    public let last: Place?
    let form: Form

    enum Form: Sendable {
      case plain(Place)
      case indexed(ClosedRange<UInt64>, @Sendable (UInt64) -> Place)
      case words([(word: String, place: Place)])
    }

    private init(_ name: String, _ kind: ValueKind, _ meaning: String, last: Place?, _ form: Form) {
      (self.name, self.kind, self.meaning, self.last, self.form) = (name, kind, meaning, last, form)
    }

    public init(_ name: String, _ kind: ValueKind, _ meaning: String, _ place: Place, last: Place? = nil) {
      self.init(name, kind, meaning, last: last, .plain(place))
    }

    /// A name with an index, such as `cq[].full`.
    public init(
      _ name: String, _ kind: ValueKind, _ meaning: String, index: ClosedRange<UInt64>,
      _ place: @escaping @Sendable (UInt64) -> Place
    ) {
      self.init(name, kind, meaning, last: nil, .indexed(index, place))
    }

    /// A name that a word follows, as in `register CC`.
    public init(_ name: String, _ kind: ValueKind, _ meaning: String, words: [(word: String, place: Place)]) {
      self.init(name, kind, meaning, last: nil, .words(words))
    }

    /// As pages and errors show it: `cq[N].full`, `register WORD`.
    public var usage: String {
      switch form {
      case .plain: name
      case .indexed: name.replacing("[]", with: "[N]")
      case .words: "\(name) WORD"
      }
    }

    /// The words that may follow it.
    public var words: [String] {
      if case .words(let words) = form { words.map(\.word) } else { [] }
    }
  }

  /// The same names with other identities, to join vocabularies of several owners.
  public func map<Other>(_ transform: @escaping @Sendable (Place) -> Other) -> Vocabulary<Other> {
    Vocabulary<Other>(definitions.map { $0.map(transform) })
  }

  /// All names of both. Where both have one, that of the first counts.
  public static func + (first: Vocabulary, second: Vocabulary) -> Vocabulary {
    Vocabulary(first.definitions + second.definitions.filter { first.definition($0.name, $0.shape) == nil })
  }

  // MARK: For the parser

  func definition(_ name: String, _ shape: Shape) -> Definition? {
    definitions.first { $0.name == name && $0.shape == shape }
  }

  enum Shape { case plain, indexed, words }
}

extension Vocabulary.Definition {
  var shape: Vocabulary<Place>.Shape {
    switch form {
    case .plain: .plain
    case .indexed: .indexed
    case .words: .words
    }
  }

  fileprivate func map<Other>(_ transform: @escaping @Sendable (Place) -> Other) -> Vocabulary<Other>.Definition {
    switch form {
    case .plain(let place): .init(name, kind, meaning, transform(place), last: last.map(transform))
    case .indexed(let range, let place): .init(name, kind, meaning, index: range) { transform(place($0)) }
    case .words(let words): .init(name, kind, meaning, words: words.map { ($0.word, transform($0.place)) })
    }
  }
}

/// A variable that an expression uses.
public struct Variable<Place: Hashable & Sendable>: Sendable {
  /// As written: `cq[1].full`, `register CC`.
  public let name: String
  public let kind: ValueKind
  public let place: Place
  let last: Place?
}
