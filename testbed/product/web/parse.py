"""Reads both texts by prometheus-client's parsers, and compares their numbers with those of `get stats`."""

import json
import socket
import sys
import time
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as classic

url, control = sys.argv[1:3]
is_cleared = len(sys.argv) > 3


def get(path, accept="*/*"):
    with urllib.request.urlopen(urllib.request.Request(url + path, headers={"Accept": accept})) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def stats():
    client = socket.socket(socket.AF_UNIX)
    client.connect(control)
    client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"get","params":{"what":"stats"}}\n')
    line = client.makefile().readline()
    return json.loads(line)["result"]


def read(parser, text):
    families, samples = {}, {}
    for family in parser(text):
        families[family.name] = (family.type, family.documentation)
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, key
            samples[key] = sample.value
    return families, samples


wanted = stats()
# a snapshot that is younger than the statistics
for _ in range(200):
    kind, text = get("/metrics")
    families, samples = read(classic, text)
    if samples[("tapline_snapshot_timestamp_seconds", ())] > wanted["time"]:
        break
    time.sleep(0.05)
assert kind == "text/plain; version=0.0.4; charset=utf-8", kind
kind, open_text = get("/metrics", "application/openmetrics-text; version=1.0.0")
assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", kind
open_families, open_samples = read(open_metrics, open_text)

# both have the same families, help and series
ours = {name: text for name, (_, text) in families.items()}
theirs = {name: text for name, (_, text) in open_families.items()}
assert len(ours) == len(theirs) > 100, (len(ours), len(theirs))
moving = ("process_", "tapline_snapshot_timestamp", "tapline_uptime", "tapline_lcore_", "tapline_clock_", "tapline_in_flight", "tapline_http_")
still = lambda samples: {key: value for key, value in samples.items() if not key[0].startswith(moving)}
assert set(samples) == set(open_samples), set(samples) ^ set(open_samples)
a, b = still(samples), still(open_samples)
assert a == b, [(key, a[key], b[key]) for key in a if a[key] != b[key]][:10]


def value(name, **labels):
    return samples[(name, tuple(sorted(labels.items())))]


if is_cleared:
    # statistics begin anew, and what is scraped goes on
    assert value("tapline_packets_received_total") > wanted["packets"]["received"] + 10, wanted["packets"]
    assert value("tapline_latency_seconds_count", tool="d") >= wanted["tools"]["d"]["latency_ns"]["samples"]
    sys.exit()

for name, port in wanted["ports"].items():
    for field, metric in [
        ("received", "received_packets"), ("received_bytes", "received_bytes"), ("congested", "congested_packets"), ("unparsed", "unparsed_packets"),
    ]:
        assert value(f"tapline_port_{metric}_total", port=name) == port[field], (name, field)
    for field, metric in [
        ("rx_packets", "received_packets"), ("tx_packets", "sent_packets"), ("missed", "missed_packets"), ("no_mbuf", "no_mbuf_packets"),
        ("rx_errors", "receive_errors"), ("tx_errors", "transmit_errors"), ("rx_bytes", "received_bytes"), ("tx_bytes", "sent_bytes"),
    ]:
        assert value(f"tapline_port_driver_{metric}_total", port=name) == port["driver"][field], (name, field)
    assert value("tapline_port_link_up", port=name) == port["link_up"]
for disposition, count in wanted["packets"].items():
    if disposition == "received":
        assert value("tapline_packets_received_total") == count
    else:
        assert value("tapline_packets_total", disposition=disposition) == count, disposition
for name, tool in wanted["tools"].items():
    assert value("tapline_copies_requested_total", tool=name) == tool["requested"], name
    assert value("tapline_copies_sent_total", tool=name) == tool["sent"], name
    for reason, count in tool["dropped"].items():
        assert value("tapline_copies_dropped_total", tool=name, reason=reason) == count, (name, reason)
    samples_of = tool["latency_ns"]["samples"]
    # every tool has its histogram, one that only discards too, with true counts
    assert value("tapline_latency_seconds_count", tool=name) == samples_of, name
    assert value("tapline_latency_seconds_bucket", tool=name, le="+Inf") == samples_of, name
    buckets = [(float(dict(key[1])["le"]), count) for key, count in samples.items() if key[0] == "tapline_latency_seconds_bucket" and dict(key[1])["tool"] == name]
    buckets.sort()
    assert len(buckets) == 23 and [count for _, count in buckets] == sorted(count for _, count in buckets), buckets
    if samples_of:
        mean = value("tapline_latency_seconds_sum", tool=name) / samples_of
        assert 0 < mean <= tool["latency_ns"]["max"] / 1e9, (mean, tool["latency_ns"])
        # half of the values are at most p50, to the width of its bucket
        p50 = tool["latency_ns"]["p50"] / 1e9
        above = next(count for bound, count in buckets if bound >= p50 * 1.04)
        assert above >= samples_of / 2, (p50, buckets)
for name, rule in wanted["rules"].items():
    assert value("tapline_rule_matched_packets_total", rule=name) == rule["matched"], name
for name, group in wanted["groups"].items():
    assert value("tapline_group_copies_requested_total", group=name) == group["requested"], name
    for tool, count in group["buckets"].items():
        assert value("tapline_group_buckets", group=name, tool=tool) == count
for name, wire in wanted["wires"].items():
    assert value("tapline_wire_forwarded_packets_total", wire=name, direction="a-to-b") == wire["a_to_b"]["forwarded"]
assert value("tapline_balanced") == wanted["balanced"] == 1
assert sum(value("tapline_packets_total", disposition=word) for word in wanted["packets"] if word != "received") == value("tapline_packets_received_total")
print("ok", len(samples))
