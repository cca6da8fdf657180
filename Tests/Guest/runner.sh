# Sourced by the run-…-tests.sh: runs tests in guests and reports their results.

failed=0 missing=0 begun=0
# A guest keeps more than one core busy: two at once on two cores take three quarters of the sequential time.
at_once=${AT_ONCE:-1}
work=$(mktemp -d)
# Each test is a process group: an emulator, a server, their children.
trap 'for job in $(jobs -p); do kill -- -"$job" 2>/dev/null; done; wait; rm -rf "$work"' EXIT

# build_nvmepf - the nvmepf that runs in the guests: NVMEPF_STATIC, or a new build.
build_nvmepf() {
  if [ -n "${NVMEPF_STATIC:-}" ]; then cp "$NVMEPF_STATIC" "$work/nvmepf"; else build_program nvmepf; fi
}

# build_program NAME - build a program for the guests, once.
build_program() {
  [ ! -e "$work/$1" ] || return 0
  say "building $1 for the guests"
  "$guest/../../scripts/static.sh" "$work/$1" "$1" >"$work/build.log" 2>&1 || {
    tail -20 "$work/build.log" >&2
    fail "$1 does not build"
  }
}

# prepared WHAT COMMAND... - prepare requirements of tests. If this machine or its network does not permit that, the tests
# are not run; a build failure is a failure like any other.
prepared() {
  local what=$1 status=0
  shift
  "$@" || status=$?
  case $status in
    0) return 0 ;;
    "$unable")
      missing=$((missing + 1))
      echo "NOT RUN: $what: this machine or its network does not allow it"
      ;;
    *)
      failed=$((failed + 1))
      echo "FAILED: $what cannot be prepared"
      ;;
  esac
  return 1
}

# Whether the emulator is available and runs.
has_qemu() { "$guest/qemu.sh" --version >/dev/null; }

# begin TITLE COMMAND... - run a test in its own directory ($folder, for the guest $folder/host), concurrently with others.
# Prints its result and, for a failure, its output.
begin() {
  local title=$1
  shift
  until [ "$(jobs -rp | wc -l)" -lt "$at_once" ]; do wait -n; done
  begun=$((begun + 1))
  local folder=$work/$begun begin=$SECONDS
  mkdir -p "$folder/host"
  cp "$guest/guest.inc" "$guest/checks.inc" "$folder/host/"
  set -m
  (
    set +m
    trap - EXIT
    outcome=passed
    "$@" >"$folder/log" 2>&1 8>&- || outcome=FAILED
    flock 8
    echo "$outcome: $title ($((SECONDS - begin)) s)" | tee "$folder/outcome"
    if [ $outcome = FAILED ]; then
      # Every failed check, and the end of the output.
      grep -a 'FAILED' "$folder/log"
      tail -n 60 "$folder/log"
    elif [ -n "${VERBOSE:-}" ]; then
      cat "$folder/log"
    fi
  ) 8>"$work/telling" &
  set +m
}

# run_test NAME FOLDER-OF-KERNEL SCRIPT FILE... - run a test in a guest with the files in /host.
run_test() {
  local name=$1 system=$2 script=$3
  shift 3
  local what
  what=$(sed -n '1s/^# //p' "$script")
  # Other programs of the package that it runs.
  local program programs=(nvmepf) files=("$@")
  for program in $(sed -n 's/^# PROGRAMS=//p' "$script"); do
    build_program "$program"
    programs+=("$program")
  done
  # Options of QEMU for additional devices.
  local devices
  devices=$(sed -n 's/^# DEVICES=//p' "$script" | tr '\n' ' ')
  # Kernel parameters.
  local parameters
  read -ra parameters <<<"${PARAMETERS:-} $(sed -n 's/^# PARAMETERS=//p' "$script") ${KEEP:+KEEP=1}"
  DEVICES=$devices begin "$name: $what" in_guest "$name" "$system" "$script" "${parameters[@]}"
}

# in_guest NAME FOLDER-OF-KERNEL SCRIPT KERNEL-PARAMETER... - boot a guest with `files` and `programs` in /host. KEEP=FOLDER in
# the environment keeps the recorded traces in FOLDER.
in_guest() {
  local name=$1 system=$2 script=$3 program status=0
  shift 3
  cp "${files[@]}" "$folder/host/"
  for program in "${programs[@]}"; do ln "$work/$program" "$folder/host/"; done
  "$guest/boot.sh" "$system/vmlinuz" "$system/initrd.cpio" "$folder/host" "$script" "$@" || status=$?
  if [ -n "${KEEP:-}" ]; then
    mkdir -p "$KEEP"
    find "$folder/host" -name '*.nvpt' -exec sh -c 'cp "$1" "$2-$(basename "$1")"' sh {} "$KEEP/${name//[ \/]/-}" \;
  fi
  return $status
}

# The overall result. Under continuous integration at least one test must run.
summary() {
  wait
  local passed
  passed=$(cat "$work"/*/outcome 2>/dev/null | grep -c ^passed)
  failed=$((failed + begun - passed))
  echo "$passed passed, $failed failed, $missing not run"
  if [ "${CI:-}" = true ] && [ $((passed + failed)) = 0 ]; then
    echo "FAILED: no test was run"
    return 1
  fi
  [ "$failed" = 0 ]
}
