# nvmet-pci-epf with DMA and MSI-X: every command is explained, whatever interrupts it, and the replay is identical.
. ./guest.inc
. ./vepc.inc
EVENTS="nvmet endpoint window work host block"
mode
# Every Read and Write of a block that there is was a request of the block layer, of that place and length.
of_events 'v["event"] == "fetch" && v["qid"] && (v["opcode"] == 1 || v["opcode"] == 2) && v["slba"] < 131072 {
  print v["slba"], (v["cdw12"] % 65536 + 1) * 512 }' /tmp/t.nvpt >/tmp/fetched
of_events 'v["event"] == "block" && v["flags"] % 2 == 0 { print v["sector"], v["length"] }' /tmp/t.nvpt >/tmp/block
alone=$(awk 'NR == FNR { n[$0]++; next } n[$0]-- <= 0' /tmp/block /tmp/fetched | wc -l)
holds "$alone of $(wc -l </tmp/fetched) commands came without a request of the block layer" \
  test "$alone" -le "$(not_run /tmp/t.nvpt)" -a -s /tmp/fetched
EVENTS=
resets
finish
