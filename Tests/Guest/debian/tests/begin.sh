# A recording that starts while commands run does not move their events to its own start time.
. ./guest.inc
. ./nvmet.inc
target_up loop
host_up loop
# Commands on an I/O queue and on the admin queue, from before the recording until after it.
busy() { while [ -e /tmp/busy ]; do "$@" >/dev/null 2>&1 && touch "/tmp/$1.ran"; done; }
touch /tmp/busy
busy dd if=/dev/nvme0n1 of=/dev/null bs=4k count=64 iflag=direct &
busy nvme id-ctrl /dev/nvme0 &
until_true test -e /tmp/dd.ran -a -e /tmp/nvme.ran
# Of two admin commands that end during the recording, the second also begins in it.
cat >/tmp/job <<'X'
. ./guest.inc
dd if=/dev/nvme0n1 of=/dev/null bs=4k count=64 iflag=direct
for turn in 1 2; do
  rm -f /tmp/nvme.ran
  until_true test -e /tmp/nvme.ran
done
X
$nvmepf record --kernel --events nvmet host -o /tmp/t.nvpt -- sh /tmp/job 2>/dev/null
rm /tmp/busy
wait
holds "commands of the I/O queue" test "$($nvmepf dump --event request /tmp/t.nvpt | grep -vc ' qid=0 ')" -ge 64
holds "commands of the admin queue" test "$($nvmepf dump --event request /tmp/t.nvpt | grep -c ' qid=0 ')" -ge 1
# A stream begins with its origin, at the beginning of the recording.
began=$($nvmepf dump --event origin /tmp/t.nvpt | awk '{ print $1; exit }')
expect "events at the moment at which the recording began" \
  "$($nvmepf dump /tmp/t.nvpt | awk -v began="$began" '$1 == began && $3 != "origin"' | wc -l)" 0
exact_sums /tmp/t.nvpt
host_down
finish
