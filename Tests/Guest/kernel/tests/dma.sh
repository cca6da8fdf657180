# nvmet-pci-epf with DMA and MSI-X: every command is explained, and the replay finds no difference.
. ./guest.inc
. ./vepc.inc
EVENTS="nvmet endpoint window work host block"
mode
# Every valid Read and Write has a block layer request with the same position and length.
of_events 'v["event"] == "fetch" && v["qid"] && (v["opcode"] == 1 || v["opcode"] == 2) && v["slba"] < 131072 {
  print v["slba"], (v["cdw12"] % 65536 + 1) * 512 }' /tmp/t.nvpt >/tmp/fetched
of_events 'v["event"] == "block" && v["flags"] % 2 == 0 { print v["sector"], v["length"] }' /tmp/t.nvpt >/tmp/block
alone=$(awk 'NR == FNR { n[$0]++; next } n[$0]-- <= 0' /tmp/block /tmp/fetched | wc -l)
holds "$alone of $(wc -l </tmp/fetched) commands have no block layer request" \
  test "$alone" -le "$(not_run /tmp/t.nvpt)" -a -s /tmp/fetched
EVENTS=
resets
finish
