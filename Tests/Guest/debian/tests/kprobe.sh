# Over nvme-loop by kprobes, as where fentry is refused: what loop.sh expects.
ATTACH=kprobe . ./loop.sh
