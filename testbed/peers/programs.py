"""The programs that are compared: each does a piece of work on one CPU, and says how much it did in how much CPU time.

All programs of a comparison are started, and held still (SIGSTOP) but for the one whose turn it is: turns can be short, so that what else
the machine does, which comes and goes within seconds, weighs on all alike. Rates are by the time that the worker's thread had its CPU.
"""

import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
FOLDER = os.path.join(TARGET, "peers")
SECONDS = float(os.environ.get("BENCH_SECONDS", "0.4"))
BURST = int(os.environ.get("BENCH_BURST", "64"))
# seconds after which a line of statistics is too old for the CPU time that is read beside it, and how often the next is waited for
PROMPT, LATE = 0.003, 10
# of a turn, before it is measured: caches and tables of flows are a program's own again
SETTLE = 0.15
CPUS = sorted(os.sched_getaffinity(0))
MAIN, WORKER = CPUS[0], CPUS[-1]
# of the threads of worker lcores, in DPDK's releases
WORKER_NAMES = ("rte-worker", "lcore-worker", "dpdk-worker")
# leaves no files, shares nothing
EAL = "--no-pci --no-telemetry --in-memory"


class Missing(Exception):
    """Why a peer cannot be run."""


def free_huge_mib():
    """Free huge pages of all sizes."""
    total = 0
    for folder in glob.glob("/sys/kernel/mm/hugepages/hugepages-*kB"):
        with open(f"{folder}/free_hugepages") as file:
            total += int(file.read()) * int(folder.rsplit("-", 1)[1].removesuffix("kB")) // 1024
    return total


def reserve_huge_pages():
    """What to do where peers do not start for lack of them."""
    return (
        f"{free_huge_mib()} MiB of huge pages are free; to reserve 2048: "
        "echo 1024 | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    )


def worker_of(pid, names):
    """Where the kernel counts the CPU time of the thread whose name begins with one of `names`."""
    for _ in range(100):
        for task in glob.glob(f"/proc/{pid}/task/*"):
            with contextlib.suppress(OSError):
                with open(f"{task}/comm") as file:
                    if file.read().startswith(names):
                        return f"{task}/schedstat"
        time.sleep(0.1)
    raise RuntimeError(f"process {pid} has no thread {names}")


def cpu_ns(schedstat):
    """CPU time of a program's worker, whose count is in `schedstat`.

    The kernel brings a running thread's count up to date at its ticks, up to 4 ms apart: a percent of a turn. The program's own clock is
    exact, and so are the counts of its other threads, which wait.
    """
    worker, tasks = os.path.dirname(schedstat), os.path.dirname(os.path.dirname(schedstat))
    others = 0
    for task in glob.glob(f"{tasks}/*"):
        if task != worker:
            # a thread may end meanwhile
            with contextlib.suppress(OSError), open(f"{task}/schedstat") as file:
                others += int(file.read().split()[0])
    # linux/posix-timers_types.h: the clock of a process's CPU time (CPUCLOCK_SCHED) by its id
    process = ~int(tasks.split("/")[2]) << 3 | 2
    return time.clock_gettime_ns(process) - others


class Turns:
    """A program that is up and held still: `process`, whose thread with its CPU time in `schedstat` does what `counts()` counts."""

    def __init__(self, process, schedstat, counts):
        self.process, self.schedstat, self.counts = process, schedstat, counts
        self.process.send_signal(signal.SIGSTOP)

    def take(self, seconds=SECONDS):
        """Lets the program run for a turn. Million of each count in a second of the worker's time."""
        self.process.send_signal(signal.SIGCONT)
        try:
            time.sleep(SETTLE)
            first, begun = self.counts(), cpu_ns(self.schedstat)
            for _ in range(50):
                time.sleep(seconds)
                last, ended = self.counts(), cpu_ns(self.schedstat)
                # other work may have kept the worker from its CPU
                if ended - begun > seconds * 5e8:
                    return [(b - a) * 1e3 / (ended - begun) for a, b in zip(first, last)]
            raise RuntimeError(f"the worker of {self.schedstat} had no CPU")
        finally:
            self.process.send_signal(signal.SIGSTOP)


@contextlib.contextmanager
def running(command, **options):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def net_pcap(path):
    return f"net_pcap0,rx_pcap={path},infinite_rx=1"


def testpmd_command(devices, mode="io"):
    if not shutil.which("dpdk-testpmd"):
        raise Missing("no dpdk-testpmd; install the package dpdk-dev")
    # its answers are read while it runs: a line at a time, not when a buffer is full
    command = ["stdbuf", "-oL", "dpdk-testpmd", "-l", f"{MAIN},{WORKER}", "--main-lcore", str(MAIN), "--log-level", "3", *EAL.split()]
    for device in devices:
        command += ["--vdev", device]
    command += ["--", "-i", "--no-mlockall", "--nb-cores=1", f"--forward-mode={mode}", "--total-num-mbufs=40000", "--mbcache=512"]
    return [*command, f"--burst={BURST}"]


@contextlib.contextmanager
def testpmd(devices, mode="io"):
    """Packets that testpmd receives; in mode rxonly it frees them unseen, and its time is little but the driver's."""
    with running(testpmd_command(devices, mode), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:

        def received():
            process.stdin.write("show port stats all\n")
            process.stdin.flush()
            total, ports = 0, len(devices)
            for line in process.stdout:
                if "RX-packets:" in line:
                    total += int(line.split("RX-packets:")[1].split()[0])
                ports -= "Tx-pps:" in line
                if ports == 0:
                    return [total]
            raise RuntimeError("testpmd ended")

        process.stdin.write("start\n")
        process.stdin.flush()
        try:
            worker = worker_of(process.pid, WORKER_NAMES)
        except RuntimeError as error:
            if process.poll() is None:
                raise
            raise Missing(f"dpdk-testpmd does not start; {reserve_huge_pages()}") from error
        time.sleep(1)
        yield Turns(process, worker, received)


@contextlib.contextmanager
def subscriber(path, patience=10):
    """A client of the control socket, which is there within so many seconds: it reads statistics, one line a second."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"to": "stats", "interval": 1}}
    with socket.socket(socket.AF_UNIX) as client:
        for _ in range(100 * patience):
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                client.connect(path)
                break
            time.sleep(0.01)
        else:
            raise RuntimeError(f"no broker listens at {path}")
        client.sendall(json.dumps(request).encode() + b"\n")
        lines = []

        def read():
            with contextlib.suppress(OSError), client.makefile() as stream:
                lines.extend(line for line in stream if '"stats"' in line)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        yield lines
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        reader.join()


@contextlib.contextmanager
def tapline(pipeline, binary=f"{TARGET}/release/tapline", warm_up=1, is_watched=False):
    """Packets that Tapline receives, and copies that it sends. Its account has to balance in the end. It may be watched by its socket."""
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/bench.pipe", "w") as file:
            file.write(f"set lcores {WORKER}\n{pipeline}start\n")
        command = [binary, "run", "bench.pipe", "--stats", "stats.json", "--interval", "50ms"]
        if is_watched:
            command += ["--control", "control.sock"]
        watched = subscriber(f"{folder}/control.sock") if is_watched else contextlib.nullcontext([None])
        with open(f"{folder}/log", "w+") as log, running(command, cwd=folder, stderr=log) as process, watched as seen:
            path = f"{folder}/stats.json"

            def failure(what):
                log.seek(0)
                return RuntimeError(f"tapline {what}: {log.read()}")

            def counts():
                """Of the next line that is written, as soon as it is; of a later one where this program had no CPU at that moment."""
                before = size = os.path.getsize(path) if os.path.exists(path) else 0
                late = 0
                looked = time.monotonic()
                for _ in range(5000):
                    if process.poll() is not None:
                        raise failure("ended")
                    before, size = size, os.path.getsize(path) if os.path.exists(path) else 0
                    looked, waited = time.monotonic(), time.monotonic() - looked
                    if size > before and waited > PROMPT and late < LATE:
                        late += 1
                    elif size > before:
                        with open(path) as file:
                            file.seek(before)
                            line = file.read().rstrip("\n").split("\n")[-1]
                        with contextlib.suppress(json.JSONDecodeError):
                            line = json.loads(line)
                            return [line["packets"]["received"], line["copies"]["sent"]]
                    time.sleep(0.001)
                raise failure("writes no statistics")

            counts()
            worker = worker_of(process.pid, WORKER_NAMES)
            time.sleep(warm_up)
            yield Turns(process, worker, counts)
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(30)
            if process.returncode:
                raise failure("failed")
            if not seen:
                raise failure("sent its subscriber nothing")


def profile(turns, path):
    """Writes to `path` what the worker of a program does for two seconds, by perf(1)."""
    turns.process.send_signal(signal.SIGCONT)
    task = turns.schedstat.split("/")[-2]
    subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-t", task, "-o", path, "--", "sleep", "2"], check=False)
    turns.process.send_signal(signal.SIGSTOP)


class OpenVSwitch:
    """Open vSwitch with DPDK, its userspace datapath on one thread; a switch of its own each time, in a network namespace and a folder.

    Its package starts a daemon where it is installed. So it is not: the packages are fetched and unpacked in target/peers.
    """

    PACKAGES = ("openvswitch-common", "openvswitch-switch", "openvswitch-switch-dpdk")

    def __init__(self):
        if os.geteuid():
            raise Missing("Open vSwitch needs root, for a network namespace of its own")
        self.root = f"{FOLDER}/ovs"
        daemon = f"{self.root}/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
        if not os.path.exists(daemon):
            os.makedirs(self.root, exist_ok=True)
            command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *self.PACKAGES]
            if not shutil.which("apt-get") or subprocess.run(command, cwd=self.root, check=False).returncode:
                raise Missing("apt-get cannot fetch openvswitch-switch-dpdk")
            for archive in glob.glob(f"{self.root}/*.deb"):
                subprocess.run(["dpkg-deb", "-x", archive, self.root], check=True)
                os.remove(archive)
        lacking = [line for line in subprocess.run(["ldd", daemon], capture_output=True, text=True, check=True).stdout.splitlines() if "not found" in line]
        if lacking:
            raise Missing(f"ovs-vswitchd-dpdk lacks {lacking[0].strip()}")

    def program(self, name):
        (path,) = (path for folder in ("bin", "sbin") for path in glob.glob(f"{self.root}/usr/{folder}/{name}"))
        return path

    @contextlib.contextmanager
    def run(self, capture, tools, flows, mirrors=0):
        """Packets received from `capture` by a bridge with `tools` sinks and these flows."""
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            environment = {**os.environ, "OVS_RUNDIR": folder, "OVS_DBDIR": folder, "OVS_LOGDIR": folder}
            quiet = {"env": environment, "stderr": subprocess.DEVNULL}

            def say(*words, text=None):
                done = subprocess.run(words, env=environment, input=text, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
                return done.stdout

            def wait(path):
                for _ in range(200):
                    if os.path.exists(path):
                        return
                    time.sleep(0.05)
                raise RuntimeError(f"no {path}")

            database = f"unix:{folder}/db.sock"
            vsctl = (self.program("ovs-vsctl"), "--timeout=30", f"--db={database}")
            say(self.program("ovsdb-tool"), "create", f"{folder}/conf.db", f"{self.root}/usr/share/openvswitch/vswitch.ovsschema")
            stack.enter_context(running([self.program("ovsdb-server"), f"{folder}/conf.db", f"--remote=p{database}"], **quiet))
            wait(f"{folder}/db.sock")
            say(*vsctl, "--no-wait", "init")
            settings = ("dpdk-init=true", f"pmd-cpu-mask={1 << WORKER:#x}", f"dpdk-lcore-mask={1 << MAIN:#x}", "per-port-memory=true", f'dpdk-extra="{EAL}"')
            say(*vsctl, "--no-wait", "set", "Open_vSwitch", ".", *(f"other_config:{setting}" for setting in settings))
            daemon = f"{self.root}/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
            daemon = [daemon, database, f"--unixctl={folder}/ctl", f"--log-file={folder}/log"]
            switch = stack.enter_context(running(["unshare", "-n", "taskset", "-c", str(MAIN), *daemon], **quiet))
            wait(f"{folder}/ctl")

            def port(name, device):
                say(*vsctl, "add-port", "br0", name, "--", "set", "Interface", name, "type=dpdk", f'options:dpdk-devargs="{device}"')
                error = say(*vsctl, "get", "Interface", name, "error").strip()
                if error != "[]":
                    raise RuntimeError(f"{name}: {error}")

            say(*vsctl, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure")
            port("src", net_pcap(capture))
            for tool in range(1, tools + 1):
                port(f"t{tool}", f"net_null{tool},no-rx=1")
            say(self.program("ovs-ofctl"), "-O", "OpenFlow15", "replace-flows", "br0", "-", text="\n".join(flows) + "\n")
            for tool in range(1, mirrors + 1):
                say(*vsctl, "--", "--id=@s", "get", "Port", "src", "--", "--id=@t", "get", "Port", f"t{tool}", "--", "--id=@m", "create", "Mirror",
                    f"name=m{tool}", "select-src-port=@s", "output-port=@t", "--", "add", "Bridge", "br0", "mirrors", "@m")  # fmt: skip
            appctl = (self.program("ovs-appctl"), "-t", f"{folder}/ctl")

            def received():
                text = say(*appctl, "dpif-netdev/pmd-stats-show")
                return [sum(int(line.split()[-1]) for line in text.splitlines() if "packets received:" in line)]

            worker = worker_of(switch.pid, ("pmd-",))
            time.sleep(0.5)
            # megaflows that were made before all was set up
            say(*appctl, "revalidator/purge")
            time.sleep(1.5)
            yield Turns(switch, worker, received)

    def filter(self, capture):
        return self.run(capture, 1, [*web("output:t1"), "priority=0,actions=drop"])

    def balance(self, capture):
        chosen = [f"table=1,reg0={tool},actions=output:t{tool + 1}" for tool in range(4)]
        hashed = "multipath(symmetric_l3l4,50,hrw,4,0,NXM_NX_REG0[]),resubmit(,1)"
        return self.run(capture, 4, [*web(hashed), "priority=0,actions=drop", *chosen])

    def mirror(self, capture, tools):
        return self.run(capture, tools, ["in_port=src,actions=drop"], mirrors=tools)


def web(actions):
    return [f"priority=10,in_port=src,tcp,tp_{end}={port},actions={actions}" for port in (80, 443) for end in ("src", "dst")]


class Kernel:
    """tc mirred between veth pairs. testpmd puts packets in; the kernel's work is done inside its calls, and is its worker's time."""

    def __init__(self):
        if os.geteuid() or not shutil.which("tc"):
            raise Missing("tc mirred needs root, ip and tc")

    @contextlib.contextmanager
    def mirror(self, capture, tools):
        """Packets taken in from `capture` and mirrored to `tools` interfaces; with 0 tools the load alone."""
        namespace = f"tapline-peers-{os.getpid()}-{tools}"

        def ip(*words):
            return subprocess.run(["ip", "-n", namespace, *words], capture_output=True, text=True, check=True).stdout

        subprocess.run(["ip", "netns", "add", namespace], check=True)
        try:
            for near, far in (("a0", "a1"), *((f"t{tool}", f"p{tool}") for tool in range(1, tools + 1))):
                ip("link", "add", near, "type", "veth", "peer", "name", far)
                for name in (near, far):
                    subprocess.run(["ip", "netns", "exec", namespace, "sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1"], check=False)
                    ip("link", "set", name, "up")
            if tools:
                tc = ["tc", "-n", namespace]
                subprocess.run([*tc, "qdisc", "add", "dev", "a1", "ingress"], check=True)
                actions = " ".join(f"action mirred egress mirror dev t{tool}" for tool in range(1, tools + 1))
                subprocess.run([*tc, *f"filter add dev a1 ingress protocol all prio 1 u32 match u32 0 0 {actions}".split()], check=True)
            devices = [net_pcap(capture), "net_af_packet0,iface=a0,qdisc_bypass=1"]
            command = ["ip", "netns", "exec", namespace, *testpmd_command(devices)]
            with running(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                process.stdin.write("start\n")
                process.stdin.flush()
                worker = worker_of(process.pid, WORKER_NAMES)
                time.sleep(1)
                yield Turns(process, worker, lambda: [json.loads(ip("-j", "-s", "link", "show", "a1"))[0]["stats64"]["rx"]["packets"]])
        finally:
            subprocess.run(["ip", "netns", "delete", namespace], check=False)
