#!/bin/bash
# pages.sh PROGRAM OUTPUT - write the manual pages, OUTPUT/man, and the completions, OUTPUT/completions, of the nvmepf
# PROGRAM, which must run on this machine. Needs a Swift toolchain for swift-argument-parser's generate-manual, and Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
program=${1:?usage: pages.sh PROGRAM OUTPUT} output=${2:?usage: pages.sh PROGRAM OUTPUT}

checkout=.build/checkouts/swift-argument-parser
[ -d "$checkout" ] || swift package resolve
swift build --package-path "$checkout" --scratch-path .build/manual --product generate-manual >.build/manual.log 2>&1 || {
  tail -n 20 .build/manual.log >&2
  echo "pages.sh: generate-manual does not build" >&2
  exit 1
}

pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
date=$(date --utc --date "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}" +%Y-%m-%d)
.build/manual/debug/generate-manual "$program" --multi-page --date "$date" --output-directory "$pages"

rm -rf "$output"/{man,completions}
mkdir -p "$output"/{man,completions}
scripts/manual.py "$pages" docs/trace-format.md packaging/man/nvmepf.mdoc "$output/man"
# The script for bash is sourced, not run.
for shell in bash zsh fish; do
  "$program" --generate-completion-script "$shell" | sed '1{/^#!/d}' >"$output/completions/$shell"
done
echo "$output: $(find "$output/man" -type f | wc -l) manual pages, completions for bash, zsh and fish"
