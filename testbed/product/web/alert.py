"""Has a real Alertmanager be told by a real Prometheus that a tool of a broker is down."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

url, control, contrib = sys.argv[1:]


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


port, manager = free(), free()
pathlib.Path("prometheus.yml").write_text(
    "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
    f"rule_files: ['{contrib}/prometheus/tapline.rules.yml']\n"
    f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{manager}']}}]}}]}}\n"
    f"scrape_configs:\n  - {{job_name: tapline, static_configs: [{{targets: ['{url.split('//')[1]}']}}]}}\n"
)
# Debian's Alertmanager reads its templates there; one that is unpacked and not installed has them elsewhere
templates = pathlib.Path("/usr/share/prometheus/alertmanager")
start = ["prometheus-alertmanager"]
if not templates.exists():
    program = pathlib.Path(shutil.which("prometheus-alertmanager")).resolve().parent.parent / "usr/share/prometheus/alertmanager"
    if os.getuid() != 0 or not program.exists():
        print("skipped: Alertmanager's templates are not there")
        sys.exit()
    shutil.copytree(program, "templates")
    start = ["unshare", "--mount", "sh", "-c",
             f'mount -t tmpfs none /usr/share && mkdir -p {templates} && cp "$0"/* {templates} && exec prometheus-alertmanager "$@"', "templates"]
log = open("daemons.log", "w")
daemons = [
    subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    for command in (
        start + [f"--config.file={contrib}/alertmanager/alertmanager.yml", f"--web.listen-address=127.0.0.1:{manager}",
         "--cluster.listen-address=", "--storage.path=manager"],
        ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.path=tsdb"],
    )
]
try:
    begun = time.time()
    alerts = []
    while not alerts:
        assert time.time() - begun < 150 and all(daemon.poll() is None for daemon in daemons), open("daemons.log").read()
        time.sleep(1)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{manager}/api/v2/alerts") as answer:
                alerts = json.load(answer)
        except OSError:
            pass
    told = {(alert["labels"]["alertname"], alert["labels"].get("tool")) for alert in alerts}
    assert ("TaplineToolDown", "t") in told, told
    assert all(name.startswith("Tapline") and tool != "d" for name, tool in told), told
    assert "on-call" in {receiver["name"] for alert in alerts for receiver in alert["receivers"]}, alerts
    print("ok", told)
finally:
    for daemon in daemons:
        daemon.terminate()
        daemon.wait()
