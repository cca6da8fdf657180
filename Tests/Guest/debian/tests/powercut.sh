# After a power loss, a disk with a volatile cache has everything that was flushed or written with Force Unit Access.
# PROGRAMS=data-safety
. ./guest.inc
modprobe null_blk nr_devices=0
# Without power it loses its cache, but not its data.
disk=/sys/kernel/config/nullb/nullb0
mkdir $disk
echo 1 >$disk/memory_backed
echo 64 >$disk/size
echo 16 >$disk/cache_size
echo 512 >$disk/blocksize
echo 1 >$disk/power
expect "the disk's cache" "$(cat /sys/block/nullb0/queue/write_cache)" "write back"
holds "all flushed data is there" \
  /host/data-safety $nvmepf 3 7 /dev/nullb0 /dev/nullb0 "echo 0 >$disk/power && echo 1 >$disk/power"
finish
