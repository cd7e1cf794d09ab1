"""The cases, run in the guest as `guest.py MODEL ADDRESS ADDRESS ADDRESS`: the broker on three NICs, each of whose hubs has a peer.

Peers are NICs that the guest's kernel drives; frames are sent and captured there through packet sockets. A result is a line
`case: NAME pass|fail|skip TEXT`; a line `link: NETDEV on|off` asks the host to set a link.
"""

import array
import fcntl
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time

TAPLINE = "/mnt/tapline"
CLOCK = "/mnt/nic_clock"
DRIVERS = {"e1000e": "net_e1000_em", "igb": "net_e1000_igb", "vmxnet3": "net_vmxnet3", "virtio": "net_virtio"}
# of the others, the driver of e1000e knows no RSS, and virtio has one queue on a hub
HAVE_RSS = ("igb", "vmxnet3")
# QEMU's vmxnet3 takes the settings and puts every packet in its first queue
SPREADS = "igb"
SOL_PACKET, PACKET_AUXDATA, PACKET_QDISC_BYPASS, SO_RCVBUFFORCE, PACKET_OUTGOING = 263, 8, 20, 33, 4
SIOCETHTOOL, ETHTOOL_SGRO = 0x8946, 0x2C
TP_STATUS_VLAN_VALID = 0x10


class Failure(Exception):
    """A case that failed, and why."""


def expect(holds, text):
    if not holds:
        raise Failure(text)


def wait_for(what, seconds, get):
    """Waits until `get` gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = get()
        if found:
            return found
        time.sleep(0.05)
    raise Failure(f"{what}: not within {seconds} s")


class Peer:
    """A NIC of the guest's kernel on the hub of a NIC under test."""

    def __init__(self, number):
        mac = f"52:54:00:00:01:{number:02x}"
        self.name = next(n for n in os.listdir("/sys/class/net") if open(f"/sys/class/net/{n}/address").read().strip() == mac)
        with open(f"/proc/sys/net/ipv6/conf/{self.name}/disable_ipv6", "w") as file:
            file.write("1")
        subprocess.run(["ip", "link", "set", self.name, "up", "promisc", "on"], check=True)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        # the kernel's queues would change the order of flows, and joining segments their bytes
        self.socket.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        off = array.array("I", [ETHTOOL_SGRO, 0])
        fcntl.ioctl(self.socket, SIOCETHTOOL, struct.pack("16sP16x", self.name.encode(), off.buffer_info()[0]))
        self.socket.bind((self.name, 3))
        self.socket.setblocking(False)

    def send(self, frames):
        for frame in frames:
            while True:
                try:
                    self.socket.send(frame)
                    break
                except OSError:
                    time.sleep(0.001)

    def captured(self):
        """Frames that came in since the last call; the kernel hands over an outer VLAN tag beside its frame."""
        frames = []
        while True:
            try:
                frame, control, _, address = self.socket.recvmsg(65536, 256)
            except BlockingIOError:
                return frames
            if address[2] == PACKET_OUTGOING:
                continue
            for level, kind, data in control:
                if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                    status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
                    if status & TP_STATUS_VLAN_VALID:
                        frame = frame[:12] + struct.pack(">HH", tpid or 0x8100, tci) + frame[12:]
            frames.append(frame)


class Broker:
    """`tapline run` on a pipeline, and its statistics."""

    def __init__(self, pipeline):
        self.folder = f"/tmp/{time.monotonic_ns()}"
        os.mkdir(self.folder)
        with open(f"{self.folder}/test.pipe", "w") as file:
            file.write(pipeline)
        self.log = open(f"{self.folder}/log", "w+")
        command = [TAPLINE, "run", "test.pipe", "--stats", "stats.json", "--interval", "100ms"]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=self.log, stderr=self.log)

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def last(self):
        """The latest whole line of the statistics, if there is one."""
        if self.process.poll() is not None:
            raise Failure(f"tapline ended with status {self.process.returncode}: {self.text()}")
        try:
            lines = open(f"{self.folder}/stats.json").read().split("\n")
        except FileNotFoundError:
            return None
        return json.loads(lines[-2]) if len(lines) > 1 else None

    def until(self, what, holds, seconds=60):
        def get():
            last = self.last()
            return last if last and holds(last) else None

        try:
            return wait_for(what, seconds, get)
        except Failure as failure:
            raise Failure(f"{failure}; ports {json.dumps((self.last() or {}).get('ports'))}; it said: {self.text()}") from None

    def settled(self):
        """Statistics when nothing moves any more."""
        before, since = -1, time.monotonic()
        while True:
            time.sleep(0.3)
            received = self.last()["packets"]["received"]
            if received == before or time.monotonic() > since + 30:
                return self.last()
            before = received

    def end(self):
        """The statistics at the end of a run that ends as it should."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure(f"tapline does not end on SIGTERM: {self.text()}") from None
        expect(status == 0, f"tapline ended with status {status}: {self.text()}")
        last = json.loads(open(f"{self.folder}/stats.json").read().strip().split("\n")[-1])
        packets = last["packets"]
        ends = sum(packets[end] for end in ("delivered", "unmatched", "excluded", "sampled_out", "duplicate", "failed"))
        expect(packets["received"] == ends and last["balanced"], f"the account does not balance: {last}")
        for name, tool in last["tools"].items():
            expect(tool["requested"] == tool["sent"] + sum(tool["dropped"].values()), f"tool {name} does not balance: {tool}")
        return last

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source, target, source_port, target_port, protocol, size, tag=None):
    """A frame of `size` bytes; QEMU's igb and vmxnet3 send no IPv4 whose header is wrong."""
    link = bytes.fromhex("020000000002020000000001") + (struct.pack(">HH", 0x8100, tag) if tag else b"") + b"\x08\x00"
    length = size - len(link)
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, length, 7, 0x4000, 64, protocol, 0, source, target)
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    if protocol == 6:
        body = struct.pack(">HHIIBBHHH", source_port, target_port, 1, 1, 0x50, 0x10, 8192, 0, 0)
    else:
        body = struct.pack(">HHHH", source_port, target_port, length - 20, 0)
    return link + head + body + bytes(length - 20 - len(body))


def mixture(count):
    """TCP, UDP, tagged frames and no IP at all, of 60 to 1514 bytes (1518 with a tag)."""
    rng = random.Random(7)
    frames = []
    for index in range(count):
        size = rng.choice((60, 64, 128, 590, 1514))
        source, target = (bytes([198, 18, rng.randrange(8), rng.randrange(256)]) for _ in range(2))
        kind = rng.randrange(8)
        if kind == 0:
            frame = bytes.fromhex("02000000000202000000000188b5") + struct.pack(">I", index) + bytes(size - 18)
        else:
            tag = 100 + kind if kind < 3 else None
            protocol = 6 if kind % 2 else 17
            frame = ipv4(source, target, 1024 + index, 443, protocol, size + (4 if tag else 0), tag)
        frames.append(frame)
    return frames


def is_ip(frame):
    return frame[12:14] != b"\x88\xb5"


def is_tcp(frame):
    return frame[12:14] == b"\x08\x00" and frame[23] == 6


def lost(got, sent):
    """The places of the first frames that did not come, for a message."""
    came = set(got)
    places = [index for index, frame in enumerate(sent) if frame not in came]
    return f", the first that are missing: {places[:8]}" if places else ""


def same(what, got, sent):
    # the kernel hands frames that no protocol of its own takes to packet sockets later than others of their batch
    got, sent = ([*filter(is_ip, frames), *(frame for frame in frames if not is_ip(frame))] for frames in (got, sent))
    expect(len(got) == len(sent), f"{what}: {len(got)} frames of {len(sent)}{lost(got, sent)}")
    for index, (a, b) in enumerate(zip(got, sent)):
        expect(a == b, f"{what}: frame {index} differs: {a[:64].hex()} instead of {b[:64].hex()}")


class Cases:
    def __init__(self, model, addresses):
        self.model, self.addresses, self.broker, self.sent, self.copied = model, addresses, None, [], []
        self.peers = [Peer(number) for number in range(3)]

    def run(self, name):
        if self.broker is None and name in ("forward", "mirror", "filter", "link", "account"):
            return print(f"case: {name} fail the broker does not run", flush=True)
        begun = time.monotonic()
        try:
            text = getattr(self, name)()
            print(f"case: {name} {text if text.startswith('skip') else 'pass ' + text} ({time.monotonic() - begun:.0f} s)", flush=True)
        except Failure as failure:
            print(f"case: {name} fail {' '.join(str(failure).split())}", flush=True)
        except Exception as error:  # noqa: BLE001: whatever it is, the other cases are run
            print(f"case: {name} fail {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        return None

    def ports(self, extra=""):
        names = zip(("in", "out", "copy"), self.addresses)
        return "".join(f"port attach {name} {address}{extra if name == 'in' else ''}\n" for name, address in names)

    def attach(self):
        self.broker = Broker(
            "set idle sleep\n" + self.ports() + "tool create to-in port in\ntool create to-out port out\ntool create to-copy port copy\n"
            'rule create 10 from in to to-out,to-copy\nrule create 20 from out match "tcp" to to-in\nstart\n'
        )
        try:
            # a tool is up some time after its link is
            up = self.broker.until("all links and tools are up", lambda s: all(port["link_up"] for port in s["ports"].values())
                                   and all(tool["state"] == "up" for tool in s["tools"].values()))
        except Failure:
            self.broker.kill()
            self.broker = None
            raise
        drivers = {port["driver_name"] for port in up["ports"].values()}
        expect(drivers == {DRIVERS[self.model]}, f"drivers {drivers}")
        speeds = {port["speed_mbps"] for port in up["ports"].values()}
        return f"{drivers.pop()} at {' '.join(self.addresses)}, links up, {'/'.join(map(str, speeds))} Mbit/s"

    def carry(self, sender, frames, receivers, wants=lambda frame: True):
        """Sends frames and gives what each of the receivers captured, when they have those that `wants` chooses, or no more come.

        Not more at a time than emulated rings hold: what is lost there is not the broker's.
        """
        for peer in self.peers:
            peer.captured()
        got, wanted = [[] for _ in receivers], 0
        for start in range(0, len(frames), 48):
            batch = frames[start : start + 48]
            self.peers[sender].send(batch)
            wanted += sum(map(wants, batch))
            end = time.monotonic() + 10
            while min(map(len, got)) < wanted and time.monotonic() < end:
                time.sleep(0.002)
                for frames_of, receiver in zip(got, receivers):
                    frames_of += self.peers[receiver].captured()
            # what is lost is not waited for with every batch
            wanted = min(wanted, *map(len, got))
        time.sleep(0.3)
        return [frames_of + self.peers[receiver].captured() for frames_of, receiver in zip(got, receivers)]

    def forward(self):
        self.sent = mixture(1500)
        out, self.copied = self.carry(0, self.sent, (1, 2))
        same("in to out", out, self.sent)
        return f"{len(self.sent)} frames of 60 to 1518 bytes, in order, byte for byte"

    def mirror(self):
        same("in to copy", self.copied, self.sent)
        return f"{len(self.sent)} frames on the second tool too"

    def filter(self):
        sent = mixture(1000)
        wanted = [frame for frame in sent if is_tcp(frame)]
        same("out to in, tcp", *self.carry(1, sent, (0,), is_tcp), wanted)
        return f"{len(wanted)} TCP frames of {len(sent)}"

    def link(self):
        print("link: n1 off", flush=True)
        try:
            return self.down_and_up()
        finally:
            print("link: n1 on", flush=True)

    def down_and_up(self):
        self.broker.until("link down", lambda s: not s["ports"]["out"]["link_up"] and s["tools"]["to-out"].get("state") == "down", 30)
        sent = mixture(100)
        same("in to copy while out is down", *self.carry(0, sent, (2,)), sent)
        lost = self.broker.until("copies are counted", lambda s: s["tools"]["to-out"]["dropped"]["down"] >= 100, 20)
        lost = lost["tools"]["to-out"]["dropped"]["down"]
        print("link: n1 on", flush=True)
        self.broker.until("link up", lambda s: s["ports"]["out"]["link_up"] and s["tools"]["to-out"].get("state") == "up", 60)
        same("in to out after it came back", *self.carry(0, sent, (1,)), sent)
        return f"down and up noticed; {lost} copies counted as down, the other tool lost none"

    def account(self):
        broker, self.broker = self.broker, None
        last = broker.end()
        for name, port in last["ports"].items():
            ours, theirs = port["received"], port["driver"]["rx_packets"]
            expect(ours == theirs, f"port {name}: received {ours}, the driver counts {theirs}")
            sent, theirs = last["tools"][f"to-{name}"]["sent"], port["driver"]["tx_packets"]
            expect(sent == theirs, f"tool to-{name}: sent {sent}, the driver counts {theirs}")
        ended = [last["ports"][name]["received"] for name in ("in", "out")]
        expect(ended == [1700, 1000], f"received {ended}, sent were 1700 and 1000 frames")
        return f"{last['packets']['received']} packets, {last['copies']['requested']} copies; the drivers' counters agree"

    def spread(self):
        """Flow number N has 2^N packets each way: how many a worker got says which flows."""
        by_nic = self.model in HAVE_RSS
        lcores = "1-2" if by_nic else "receive 0 work 1-2"
        main = "" if by_nic else "set eal \"--lcores 9@0,0@0,1@1,2@2 --main-lcore 9\"\n"
        broker = Broker(
            f"set idle sleep\nset lcores {lcores}\n{main}" + self.ports(" rxq 2" if by_nic else " rxq 1")
            + "tool create count discard\nrule create 10 from in to count\nstart\n"
        )
        try:
            broker.until("all links are up", lambda s: all(port["link_up"] for port in s["ports"].values()))
            rng = random.Random(11)
            flows = [(bytes([198, 18, rng.randrange(256), rng.randrange(256)]), bytes([198, 19, rng.randrange(256), rng.randrange(256)]),
                      rng.randrange(1024, 65536), rng.choice((53, 80, 443))) for _ in range(10)]
            key = "received" if by_nic else "from_rings"
            counts = []
            before = [0, 0]
            for back in (False, True):
                frames = []
                for number, (source, target, a, b) in enumerate(flows):
                    ends = (target, source, b, a) if back else (source, target, a, b)
                    frames += [ipv4(*ends, 6, 60)] * (1 << number)
                rng.shuffle(frames)
                for start in range(0, len(frames), 48):
                    self.peers[0].send(frames[start : start + 48])
                    time.sleep(0.05)
                last = broker.settled()
                after = [last["lcores"][lcore][key] for lcore in ("1", "2")]
                counts.append([now - then for now, then in zip(after, before)])
                before = after
            warned = [line for line in broker.text().split("\n") if "RSS" in line]
            broker.end()
        finally:
            broker.kill()
        expect(sum(counts[0]) == sum(counts[1]) == 1023, f"packets by worker, forth and back: {counts}")
        expect(counts[0] == counts[1], f"a flow's directions went to different workers: {counts}; it said {warned}")
        if by_nic and self.model != SPREADS:
            return f"2 queues, both directions of each flow on one worker; this emulated NIC uses one of them: {counts[0]}; {warned}"
        expect(all(counts[0]), f"one worker got nothing: {counts}")
        flows_of = [bin(count).count("1") for count in counts[0]]
        how = "by the NIC's hash, 2 queues" if by_nic else "by software: this driver has no RSS here"
        return f"{how}: {flows_of[0]} and {flows_of[1]} flows, each with both directions on one worker"

    def clock(self):
        if self.model != "igb":
            return "skip the driver has no clock to read"
        done = subprocess.run([CLOCK, self.addresses[0]], capture_output=True, text=True, timeout=120, check=False)
        expect(done.returncode == 0, f"status {done.returncode}: {done.stdout} {done.stderr}")
        return done.stdout.strip()


def main():
    cases = Cases(sys.argv[1], sys.argv[2:])
    expect(len(cases.addresses) == 3, f"NICs: {cases.addresses}")
    for name in ("attach", "forward", "mirror", "filter", "link", "account", "spread", "clock"):
        cases.run(name)
    print("case: end", flush=True)


main()
