"""Has a real Prometheus scrape a broker in both forms, and asks it for what it has; runs every expression of the rules and of the board."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

url, control, contrib = sys.argv[1:]
target = url.split("//")[1]
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
rules = pathlib.Path(contrib, "prometheus/tapline.rules.yml")
pathlib.Path("prometheus.yml").write_text(
    "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
    f"rule_files: ['{rules}']\n"
    "scrape_configs:\n"
    f"  - {{job_name: tapline, static_configs: [{{targets: ['{target}']}}]}}\n"
)
# Prometheus asks for OpenMetrics; what it gets of a proxy that asks for the classic text is the other form
prometheus = subprocess.Popen(
    ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.path=tsdb"],
    stdout=open("prometheus.log", "w"), stderr=subprocess.STDOUT,
)


def ask(path, **parameters):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:
        answer = json.load(answer)
    assert answer["status"] == "success", answer
    return answer["data"]


def query(expression):
    return ask("query", query=expression)["result"]


try:
    begun = time.time()
    while True:
        assert prometheus.poll() is None, open("prometheus.log").read()
        assert time.time() - begun < 90, open("prometheus.log").read()
        time.sleep(0.5)
        try:
            if len(query("count_over_time(up[1m]) > 8")) == 1:
                break
        except OSError:
            pass
    assert query("min_over_time(up[1m])")[0]["value"][1] == "1", ask("targets")
    text = urllib.request.urlopen(url + "/metrics").read().decode()
    predicted = sum(1 for line in text.splitlines() if not line.startswith("#"))
    scraped = int(query("scrape_samples_post_metric_relabeling")[0]["value"][1])
    assert scraped == predicted, (scraped, predicted)
    metadata = ask("metadata")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            # Prometheus keeps metadata of the form that it scrapes, in which counters have no ending
            names = [name, re.sub("_total$", "", name), re.sub("_info$", "", name)]
            assert any(name in metadata for name in names), name
    # packets may be on their way: the account holds to what can be
    assert query("tapline_balanced")[0]["value"][1] == "1"
    ours = query("tapline_packets_received_total - ignoring(disposition) sum without (disposition) (tapline_packets_total)")
    limit = query("tapline_in_flight_limit_packets")
    assert abs(float(ours[0]["value"][1])) <= float(limit[0]["value"][1]), (ours, limit)
    assert float(query("rate(tapline_packets_received_total[10s])")[0]["value"][1]) > 0
    quantile = query("histogram_quantile(0.99, sum by (le) (rate(tapline_latency_seconds_bucket[10s])))")
    assert 0 < float(quantile[0]["value"][1]) <= 1, quantile

    # no rule has an error, and none fires at a broker that is well
    groups = ask("rules")["groups"]
    assert groups and all(rule["health"] in ("ok", "unknown") for group in groups for rule in group["rules"]), groups
    firing = [rule["name"] for group in groups for rule in group["rules"] if rule.get("state") == "firing"]
    assert firing == [], firing

    # every expression of the board has series
    board = json.load(open(os.path.join(contrib, "grafana/tapline.json")))
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(panels) > 10
    variables = {variable["name"]: ".*" for variable in board["templating"]["list"]}
    for panel in panels:
        for aim in panel["targets"]:
            expression = aim["expr"].replace("$__rate_interval", "10s").replace("$__range", "1m")
            for name, text in variables.items():
                expression = expression.replace("$" + name, text)
            assert query(expression), (panel["title"], expression)
    print("ok", scraped)
finally:
    prometheus.terminate()
    prometheus.wait()
