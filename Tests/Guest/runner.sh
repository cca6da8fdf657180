# Sourced by the run-…-tests.sh: run tests in guests and tell how they ended.

passed=0 failed=0 missing=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The nvmepf that runs in the guests: NVMEPF_STATIC, or built now.
build_nvmepf() {
  if [ -n "${NVMEPF_STATIC:-}" ]; then cp "$NVMEPF_STATIC" "$work/nvmepf"; else build_program nvmepf; fi
}

# build_program NAME - for the guests, once.
build_program() {
  [ ! -e "$work/$1" ] || return 0
  say "building $1 for the guests"
  "$guest/../../scripts/static.sh" "$work/$1" "$1" >"$work/build.log" 2>&1 || {
    tail -20 "$work/build.log" >&2
    fail "$1 does not build"
  }
}

# prepared WHAT COMMAND... - make what tests need. Where this machine or its network does not allow that, they are not
# run; that it cannot be built is a failure like any other.
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
      echo "FAILED: $what: it could not be made"
      ;;
  esac
  return 1
}

# Whether the emulator can be had, and runs.
has_qemu() { "$guest/qemu.sh" --version >/dev/null; }

# tell TITLE COMMAND... - run a test, and tell how it ended; of one that failed, what it printed.
tell() {
  local title=$1 begin=$SECONDS
  shift
  if "$@" >"$work/log" 2>&1; then
    passed=$((passed + 1))
    echo "passed: $title ($((SECONDS - begin)) s)"
    [ -z "${VERBOSE:-}" ] || cat "$work/log"
  else
    failed=$((failed + 1))
    echo "FAILED: $title ($((SECONDS - begin)) s)"
    # Each line that says so, and the end.
    grep -a 'FAILED' "$work/log"
    tail -n 60 "$work/log"
  fi
}

# KEEP=FOLDER in the environment keeps there what the tests recorded.
# run_test NAME FOLDER-OF-KERNEL SCRIPT FILE... - with the files in /host.
run_test() {
  local name=$1 system=$2 script=$3 folder=$work/host
  shift 3
  rm -rf "$folder"
  mkdir -p "$folder"
  ln "$work/nvmepf" "$folder/nvmepf"
  cp "$guest/guest.inc" "$@" "$folder/"
  local what
  what=$(sed -n '1s/^# //p' "$script")
  # Other programs of the package that it runs.
  local program
  for program in $(sed -n 's/^# PROGRAMS=//p' "$script"); do
    build_program "$program"
    ln "$work/$program" "$folder/$program"
  done
  # Options of QEMU: devices that the guest has beside the usual ones.
  local devices
  devices=$(sed -n 's/^# DEVICES=//p' "$script" | tr '\n' ' ')
  # Words of the kernel's command line.
  local parameters
  read -ra parameters <<<"${PARAMETERS:-} $(sed -n 's/^# PARAMETERS=//p' "$script") ${KEEP:+KEEP=1}"
  DEVICES=$devices tell "$name: $what" "$guest/boot.sh" "$system/vmlinuz" "$system/initrd.cpio" "$folder" "$script" "${parameters[@]}"
  if [ -n "${KEEP:-}" ]; then
    mkdir -p "$KEEP"
    find "$folder" -name '*.nvpt' -exec sh -c 'cp "$1" "$2-$(basename "$1")"' sh {} "$KEEP/${name//[ \/]/-}" \;
  fi
}

# Continuous integration is not content with nothing.
summary() {
  echo "$passed passed, $failed failed, $missing not run"
  if [ "${CI:-}" = true ] && [ $((passed + failed)) = 0 ]; then
    echo "FAILED: not one test was run"
    return 1
  fi
  [ "$failed" = 0 ]
}
