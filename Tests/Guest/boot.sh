#!/bin/bash
# boot.sh KERNEL INITRD FOLDER SCRIPT [KERNEL-PARAMETER...]
#
# Boots a guest under emulation, runs SCRIPT in it, powers it off and exits with SCRIPT's status (124: it took too long,
# 125: the guest died). FOLDER is /host in the guest: it contains the script's files, and receives its results.
# The console goes to standard output. Environment: SMP (2), MEM (1G), LIMIT (600 seconds), DEVICES (more options of QEMU).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
kernel=$1 initrd=$2 folder=$3 script=$4
shift 4

rm -f "$folder/rc"
install -m 755 "$script" "$folder/script"
case $arch in
  amd64) machine=q35 cpu=max console="ttyS0 tsc=reliable no_timer_check" ;;
  # Pointer authentication by the architecture's algorithm takes half of the emulation's time.
  arm64) machine=virt,gic-version=3 cpu=max,pauth-impdef=on console=ttyAMA0 ;;
esac
read -ra devices <<<"${DEVICES:-}"
status=0
timeout --foreground "${LIMIT:-600}" "$guest/qemu.sh" \
  -accel tcg,thread=multi -cpu "$cpu" -smp "${SMP:-2}" -m "${MEM:-1G}" \
  -object "memory-backend-memfd,id=ram,size=${MEM:-1G},share=on" -machine "$machine,memory-backend=ram" \
  -nodefaults -no-user-config -display none -serial stdio -no-reboot -kernel "$kernel" -initrd "$initrd" \
  -append "console=$console quiet panic=-1 mitigations=off $*" \
  -virtfs "local,path=$folder,mount_tag=host,security_model=none" "${devices[@]}" </dev/null || status=$?
[ "$status" = 0 ] || exit "$status"
[ -f "$folder/rc" ] || exit 125
exit "$(cat "$folder/rc")"
