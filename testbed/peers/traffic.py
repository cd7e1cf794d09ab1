"""Traffic of the comparisons: TCP, UDP and ICMP over IPv4 between two networks, many flows in turn, the same bytes every time."""

import random
import struct

IMIX = [60] * 7 + [566] * 4 + [1514]


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def flow(rng):
    """Two fifths web over TCP, a fifth other TCP, the rest UDP and a little ICMP; half of the TCP flows are seen from the server."""
    client, server = 0x0A000000 | rng.getrandbits(16), 0xC0A80000 | rng.getrandbits(16)
    port, kind = rng.randrange(1024, 65536), rng.random()
    if kind < 0.6:
        service = rng.choice((80, 443)) if kind < 0.4 else rng.choice((22, 25, 3306, 5432, 8080))
        ends = (client, server, port, service)
        return (6, *ends) if rng.random() < 0.5 else (6, server, client, service, port)
    if kind < 0.97:
        return 17, client, server, port, rng.choice((53, 123, 443, 4789, 5060))
    return 1, client, server, 0x0800, 0


def frame(protocol, source, target, a, b, size):
    """A frame of `size` bytes, without frame check sequence."""
    length = size - 14
    head = struct.pack(">BBHHHBBHII", 0x45, 0, length, 1, 0x4000, 64, protocol, 0, source, target)
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    rest = struct.pack(">IIBBHHH", 1, 1, 0x50, 0x10, 8192, 0, 0) if protocol == 6 else struct.pack(">HH", length - 20, 0)
    data = bytes.fromhex("0200000000020200000000010800") + head + struct.pack(">HH", a, b) + rest
    return data + bytes(size - len(data))


def write(path, size, flows):
    """A capture of `flows` flows, at least 4096 packets; `size` is "imix" or bytes with the frame check sequence, as testers count."""
    rng = random.Random(7)
    all_flows = [flow(rng) for _ in range(flows)]
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for index in range(max(flows, 4096)):
            data = frame(*all_flows[index % flows], rng.choice(IMIX) if size == "imix" else int(size) - 4)
            file.write(struct.pack("<IIII", 1_700_000_000, index, len(data), len(data)) + data)
