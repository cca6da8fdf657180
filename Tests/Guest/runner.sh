# Sourced by run-debian-tests.sh and run-kernel-tests.sh: run tests in guests and tell how they ended.

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

not_run() {
  missing=$((missing + 1))
  echo "NOT RUN: $*"
}

# run_test NAME FOLDER-OF-KERNEL SCRIPT FILE... - with the files in /host.
run_test() {
  local name=$1 system=$2 script=$3 begin=$SECONDS folder=$work/host
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
  read -ra parameters <<<"${PARAMETERS:-} $(sed -n 's/^# PARAMETERS=//p' "$script")"
  if DEVICES=$devices "$guest/boot.sh" "$system/vmlinuz" "$system/initrd.cpio" "$folder" "$script" "${parameters[@]}" >"$work/log" 2>&1; then
    passed=$((passed + 1))
    echo "passed: $name: $what ($((SECONDS - begin)) s)"
    [ -z "${VERBOSE:-}" ] || cat "$work/log"
  else
    failed=$((failed + 1))
    echo "FAILED: $name: $what ($((SECONDS - begin)) s)"
    tail -n 60 "$work/log"
  fi
}

summary() {
  echo "$passed passed, $failed failed, $missing not run"
  [ "$failed" = 0 ]
}
