"""The work that is compared, as pipelines: the same for `make peers` and `make compare`."""

import os

import traffic
from programs import BURST, FOLDER, net_pcap

WEB = '"tcp port 80 or tcp port 443"'
SIZES = ("64", "imix")
FLOWS = (1024, 16384)


def capture(size, flows):
    path = f"{FOLDER}/{size}-{flows}.pcap"
    if not os.path.exists(path):
        os.makedirs(FOLDER, exist_ok=True)
        traffic.write(path, size, flows)
    return path


def pipeline(source, tools, rule, more=""):
    """A port of this source, and `tools` sinks t1, t2, …"""
    lines = [f"set burst {BURST}\nset mempool 40000\nport attach src {source} txq 0"]
    for tool in range(1, tools + 1):
        lines.append(f"port attach p{tool} net_null{tool},no-rx=1 rxq 0\ntool create t{tool} port p{tool}")
    return "\n".join([*lines, more, f"rule create 10 from src {rule}", ""])


def names(tools):
    return ",".join(f"t{tool}" for tool in range(1, tools + 1))


def forward():
    both = "tool create to-a port a\ntool create to-b port b\nrule create 10 from a to to-b\nrule create 20 from b to to-a\n"
    return f"set burst {BURST}\nport attach a net_null0\nport attach b net_null1\n{both}"


def filters(source):
    return pipeline(source, 1, f"match {WEB} to t1")


def balance(source):
    return pipeline(source, 4, f"match {WEB} to g", f"group create g tools {names(4)}")


def mirror(source, tools):
    return pipeline(source, tools, f"to {names(tools)}")


def ring(source):
    """What was sent into a ring comes back out of it, and goes on: two turns of the worker for each packet."""
    loop = "port attach loop net_ring0\ntool create in port loop\nrule create 20 from loop to t1"
    return pipeline(source, 1, "to in", loop)


def replay(path):
    """Read as fast as the plan takes it. No sink has to be there, nor a driver."""
    return (
        f"set burst {BURST}\nport attach src replay:{path},speed=max,loop=forever\ntool create web discard\n"
        f"rule create 10 from src match {WEB} to web\n"
    )


def endless(size, flows):
    return net_pcap(capture(size, flows))
