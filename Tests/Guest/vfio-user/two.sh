# Two controllers of one machine in one guest: the driver distinguishes them, and reports no error.
. /host/guest.inc
modprobe nvme
# One has a null namespace and a file, the other memory.
all() { [ "$(ls -d /sys/block/nvme*n* | wc -l)" = 3 ]; }
until_true all
expect "controllers" "$(ls /sys/class/nvme | wc -l)" 2
expect "subsystems" "$(ls /sys/class/nvme-subsystem | wc -l)" 2
for what in subsysnqn serial cntlid; do
  expect "values of $what" "$(cat /sys/class/nvme/nvme*/$what | sort -u | wc -l)" 2
done
expect "namespace UUIDs" "$(cat /sys/block/nvme*n*/uuid | sort -u | wc -l)" 3
expect "duplicates that the driver found" "$(dmesg | grep -ci 'nvme.*duplicate')" 0

dd if=/dev/zero of=/tmp/block bs=512 count=1 2>/dev/null
for block in /sys/block/nvme*n*; do
  holds "a passthrough write" nvme io-passthru "/dev/${block##*/}" --opcode=1 \
    --namespace-id="$(cat "$block/nsid")" --data-len=512 --input-file=/tmp/block --write
done
expect "unusual effects" "$(dmesg | grep -c 'unusual effects')" 0
effects() { nvme effects-log /dev/nvme0 --csi=0 | grep -q 'Write .*00000003'; }
holds "the effects of the NVM command set" effects
holds "the zoned command set is not supported" refused nvme effects-log /dev/nvme0 --csi=2
behavior() { nvme get-feature /dev/nvme0 --feature-id=0x16 --data-len=512 >/dev/null; }
holds "Host Behavior Support" behavior
holds "a namespace's feature without a namespace identifier" nvme get-feature /dev/nvme0 --feature-id=5 --namespace-id=0
expect "NN" "$(nvme id-ctrl /dev/nvme0 | sed -n 's/^nn  *: //p')" 32
holds "the driver unloads" rmmod nvme
finish
