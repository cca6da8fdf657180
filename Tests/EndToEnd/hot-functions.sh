#!/bin/bash
# hot-functions.sh BINARY
#
# Disassembles the functions that run for every command, and fails if one counts references, checks exclusivity or
# allocates: each of these costs as much as a stage.
set -euo pipefail
binary=${1:?usage: hot-functions.sh BINARY}

# Calls and tail calls, of x86-64 (call, jmp) and of arm64 (bl, b).
# Every specialisation for the live ports and the replay port; rare paths are out of line and left out:
# checkpoints, admin commands, errors, requests of the serving thread.
hot='Controller.*(poll|serve|executeIO|conclude|handleCompletion|mapData|mapPRPs|fetchBurst|postWaiting|pollHead)|(LivePort|RecordingPort|ReplayPort).*(fetch|transfer|execute|post|doorbell|mapped|completion|release)|NamespaceBackends.*(data|execute|completion|release)|RingProducer.*append|QueuePair.*(submit|reap|ring)'
cold='executeAdmin|executeReservation|readRanges|mapSGL|flushAll|checkpoint|notePayload|reserveSlowly|noteError|deliverEvents|report|answer|search'

# A function without a symbol may follow: only what lies within the size of a symbol belongs to it.
found=$(awk -v hot="$hot" -v cold="$cold" '
  function hex(text, value, place) {
    for (place = 1; place <= length(text); place++) value = value * 16 + index("123456789abcdef", substr(text, place, 1))
    return value + 0
  }
  NR == FNR { if (NF > 3) size[$1] = $2; next }
  /^[0-9a-f]+ <.*>:$/ {
    name = $0; is_hot = (name ~ hot && name !~ cold); end = hex($1) + hex(size[$1])
    if (is_hot) functions++
  }
  is_hot && /[[:space:]](call|jmp|bl|b)[[:space:]].*<(swift_retain|swift_release|swift_beginAccess|swift_allocObject|swift_bridgeObjectRetain|swift_bridgeObjectRelease)/ {
    address = $1; sub(":", "", address)
    if (hex(address) < end) { print name; print "    " $0 }
  }
  END { print functions + 0 " hot functions" }' <(nm -S --defined-only "$binary") \
  <(objdump -d --no-show-raw-insn "$binary" | swift demangle -simplified))
echo "$found" | tail -n 1 | sed 's/^/    /'
[ "$(echo "$found" | tail -n 1)" != "0 hot functions" ] || { echo "    no hot function was found: the names have changed"; exit 1; }
[ "$(echo "$found" | wc -l)" = 1 ] || { echo "$found" | head -40; exit 1; }
