#!/bin/bash
# tapline filter beside tcpdump -r -w, on about 1 GB of IMIX in memory (tmpfs), so that no disk is in the figures.
# The programs alternate; the ratio is the median of the pairs' ratios (above 1: tapline is faster). Each output is made anew,
# and compared. FIRST is the time to the first packet on a pipe. Needs tcpdump and python3.
# Use: filter_file.sh [PACKETS]   with TAPLINE=program, PAIRS=5, SHM=/dev/shm, CPUS=0-1 (the cores that both may use)
set -eu
cd "$(dirname "$0")/.."
tapline=$(realpath "${TAPLINE:-target/release/tapline}")
packets=${1:-3000000} pairs=${PAIRS:-5} cpus=${CPUS:-0-$(($(nproc) - 1))}
for program in tcpdump python3 "$tapline"; do
  command -v "$program" >/dev/null || { echo "skipped: $program is missing"; exit 0; }
done
folder=$(mktemp -d "${SHM:-/dev/shm}/tapline-filter.XXXXXX")
trap 'rm -rf "$folder"' EXIT
input=$folder/in.pcap

python3 - "$input" "$packets" <<'PYTHON'
# 1024 flows; 40 % of the packets are TCP port 80 or 443. Frames of 60, 566 and 1514 bytes, 7 to 4 to 1.
import random, struct, sys
path, count = sys.argv[1], int(sys.argv[2])
choose = random.Random(7)
def flow():
    kind, addresses = choose.random(), struct.pack('>II', 0x0a000000 | choose.getrandbits(16), 0xc0a80000 | choose.getrandbits(16))
    protocol, port = (6, choose.choice((80, 443))) if kind < .4 else (6, choose.choice((22, 25, 8080))) if kind < .6 else (17, choose.choice((53, 123, 443)))
    return addresses, protocol, struct.pack('>HH', choose.randint(1024, 65535), port)
flows, frames = [flow() for _ in range(1024)], {}
def frame(index, size):
    addresses, protocol, ports = flows[index]
    ip = struct.pack('>BBHHHBBH', 0x45, 0, size - 14, 1, 0x4000, 64, protocol, 0) + addresses
    head = bytes.fromhex('0200000000020200000000010800') + ip + ports
    return head + b'\xa5' * (size - len(head))
sizes = [60] * 7 + [566] * 4 + [1514]
with open(path, 'wb', 1 << 20) as out:
    out.write(struct.pack('<IHHiIII', 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
    for index in range(count):
        key = index % 1024, sizes[choose.randrange(12)]
        packet = frames.get(key) or frames.setdefault(key, frame(*key))
        out.write(struct.pack('<IIII', 1700000000 + index // 1000000, index % 1000000, len(packet), len(packet)) + packet)
PYTHON
echo "# input $(stat -c %s "$input") bytes, $packets packets; cores $cpus; median of $pairs pairs"

seconds() { # COMMAND...: its wall time
  local start end
  start=$(date +%s.%N); taskset -c "$cpus" "$@" >/dev/null 2>&1; end=$(date +%s.%N)
  echo "$start $end" | awk '{ print $2 - $1 }'
}
median() { sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
compare() { # NAME EXPRESSION
  local pair theirs ours
  cp "$input" "$folder/theirs.pcap" # the memory of the outputs has been touched before anything is timed
  for ((pair = 0; pair < pairs; pair++)); do
    rm -f "$folder/theirs.pcap"; theirs=$(seconds tcpdump -Z root -r "$input" -w "$folder/theirs.pcap" "$2")
    [ "$pair" != 0 ] || cp "$folder/theirs.pcap" "$folder/expected.pcap"
    rm -f "$folder/theirs.pcap"; ours=$(seconds "$tapline" filter -r "$input" -w "$folder/ours.pcap" "$2")
    [ "$pair" != 0 ] || cmp "$folder/ours.pcap" "$folder/expected.pcap"
    rm -f "$folder/ours.pcap" "$folder/expected.pcap"
    echo "$theirs $ours"
  done >"$folder/pairs"
  awk '{ print $1 / $2 }' "$folder/pairs" | median | awk -v name="$1" '{ printf "%s ratio %.2f", name, $1 }'
  awk '{ print $1 }' "$folder/pairs" | median | awk '{ printf "  tcpdump %.3f s", $1 }'
  awk '{ print $2 }' "$folder/pairs" | median | awk '{ printf "  tapline %.3f s\n", $1 }'
}
compare "40% match" 'tcp port 80 or tcp port 443'
compare "no match " 'tcp port 9'

for ((run = 0; run < pairs; run++)); do
  start=$(date +%s.%N)
  "$tapline" filter --quiet -r "$input" -w - 'tcp port 80 or tcp port 443' 2>/dev/null | head -c 100 >/dev/null
  echo "$start $(date +%s.%N)" | awk '{ print ($2 - $1) * 1e3 }'
done | median | awk '{ printf "FIRST packet on a pipe, program start included: %.1f ms\n", $1 }'
