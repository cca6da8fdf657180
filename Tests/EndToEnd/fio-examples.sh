#!/bin/bash
# fio-examples.sh NVMEPF FOLDER
#
# Runs every job file of FOLDER, the examples in fio's source, under `nvmepf record`: smaller, shorter, and with files instead
# of devices. Each example that fio itself can run succeeds or is refused with a message, and the files stay unchanged. Prints
# a line per failure, and a count.
set -uo pipefail
nvmepf=$(realpath "${1:?usage: fio-examples.sh NVMEPF FOLDER}")
examples=$(realpath "${2:?usage: fio-examples.sh NVMEPF FOLDER}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/jobs" && cd "$work/jobs" || exit
ran=0 refused=0 failed=0 lacking=0

# Strip the directories of all paths, so that nothing outside this directory is touched.
for example in "$examples"/*.fio; do
  sed -E 's/^(\s*(size|filesize|io_size|file_size)\s*=).*/\11m/
    s/^(\s*(runtime|timeout|ramp_time|ss_ramp|ss_dur|startdelay)\s*=).*/\11s/
    s/^(\s*(numjobs|loops|number_ios)\s*=).*/\12/; s/^(\s*nrfiles\s*=).*/\14/
    s/^(\s*(offset|offset_increment|zonesize)\s*=).*/\164k/; s/^\s*rate(_iops)?\s*=.*//
    s/^(\s*directory\s*=).*/\1./; /^\s*filename\s*=/s|[^=:,; ]*/||g' "$example" >"${example##*/}"
done
victims=()
for name in $(sed -nE 's/^\s*filename\s*=\s*([^;#]*).*/\1/p' ./*.fio | tr ':' ' ' | tr ' ' '\n' | sort -u); do
  head -c 1048576 /dev/urandom >"$name"
  victims+=("$name")
done
before=$(sha256sum "${victims[@]}")
cp -r . ../native

# Examples that fail without nvmepf too do not count: a missing engine or device, a fault of fio.
fails_natively() { ! (cd ../native && timeout 60 fio "$1" >out 2>&1 </dev/null); }

fail() {
  echo "    FAILED: $1: $2"
  sed 's/^/      /' out | tail -n 6
  failed=$((failed + 1))
}

record() {
  timeout 120 "$nvmepf" record --backend memory --size 16MiB -o t.nvpt -- fio "$1" >out 2>&1 </dev/null
  status=$?
}

# Status 3: without I/O to a file or device.
has_run() { [ $status = 0 ] || [ $status = 3 ]; }

for job in *.fio; do
  record "$job"
  if [ "$(sha256sum "${victims[@]}")" != "$before" ]; then
    fail "$job" "a file was written"
    before=$(sha256sum "${victims[@]}")
  elif grep -q '^nvmepf: .*run this job without' out; then
    refused=$((refused + 1))
  elif has_run; then
    ran=$((ran + 1))
  elif fails_natively "$job"; then
    lacking=$((lacking + 1))
  # Some jobs wait only a second for each other, too little on a busy machine: they get a second try.
  elif record "$job" && has_run; then
    ran=$((ran + 1))
  else
    fail "$job" "status $status"
  fi
done
echo "    $((ran + refused + failed + lacking)) examples of fio's: $ran ran, $refused refused, $failed failed," \
  "$lacking end badly without nvmepf too"
[ $failed = 0 ] && [ $ran -gt 0 ]
