import Testing
import Text

@Test(
  "The name of a case is hyphenated before each word, and an abbreviation is one word",
  arguments: [
    ("read", "read"), ("dataIn", "data-in"), ("createIOSubmissionQueue", "create-io-submission-queue"), ("io", "io"),
    ("getLogPage", "get-log-page"), ("useSGL", "use-sgl"), ("", ""),
  ])
func hyphenatesNames(name: String, expected: String) { #expect(name.hyphenated == expected) }
