# doctor attaches every probe of the loaded modules.
. ./guest.inc
. ./nvmet.inc
target_up loop
host_up loop
modprobe nvme
$nvmepf doctor >/tmp/doctor
cat /tmp/doctor
for part in 'target core' 'host driver' 'block layer'; do
  holds "$part is in order" grep -q "^green .*$part" /tmp/doctor
done
host_down
finish
