#!/usr/bin/env python3
"""Compare BifRust with Debian's mosquitto 2, scenario by scenario.

Both brokers run at the same time on this machine, one of them idle; the scenarios alternate
between them and are repeated. What counts is messages received (or stored, or connections
made) per CPU-second of the broker's own process, as the operating system accounts for it: wall
times on a shared machine say little.

    cargo build --release && benches/compare.py
    benches/compare.py --only p2p-qos1,churn --repeats 5 --markdown docs/benchmarks.md
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

P2P = ["p2p", "--clients", "100", "--size", "64", "--window", "1000"]
FAN_IN = ["fan-in", "--clients", "200", "--size", "64", "--window", "1000"]
FAN_OUT = ["fan-out", "--clients", "500", "--size", "64", "--window", "16"]
SHARED = ["shared", "--clients", "20", "--members", "5", "--size", "64", "--window", "1000"]
TIMED = ["--seconds", "6", "--warm-up", "1"]

# name, arguments, the phase that counts, the least ratio to mosquitto
SCENARIOS = [
    ("p2p-qos0", [*P2P, *TIMED, "--qos", "0"], "deliver", 1.5),
    ("p2p-qos1", [*P2P, *TIMED, "--qos", "1"], "deliver", 2.0),
    ("p2p-qos2", [*P2P, *TIMED, "--qos", "2"], "deliver", 1.5),
    ("fan-in-qos0", [*FAN_IN, *TIMED, "--qos", "0"], "deliver", 1.5),
    ("fan-in-qos1", [*FAN_IN, *TIMED, "--qos", "1"], "deliver", 1.5),
    ("fan-out-qos0", [*FAN_OUT, *TIMED, "--qos", "0"], "deliver", 2.0),
    ("fan-out-qos1", [*FAN_OUT, *TIMED, "--qos", "1"], "deliver", 2.0),
    ("shared-qos1", [*SHARED, *TIMED, "--qos", "1"], "deliver", 1.5),
    (
        "unbatched",
        ["p2p", "--clients", "1000", "--size", "256", "--rate", "5000", "--qos", "1", *TIMED],
        "deliver",
        0.7,
    ),
    (
        "persistent-online",
        ["persist", "--clients", "100", "--size", "64", "--window", "1000", "--qos", "1", *TIMED],
        "deliver",
        0.4,
    ),
    ("offline-store", None, "store", 0.4),
    ("offline-drain", None, "drain", 0.6),
    ("retain-store", None, "store", 0.4),
    ("retain-deliver", None, "deliver", 0.8),
    ("churn", ["churn", "--clients", "50", "--seconds", "6"], "churn", 0.5),
]
# Two phases of one run: the second row of a pair takes its figure from the first one's report.
SHARED_RUNS = {
    "offline-store": ["offline", "--clients", "400", "--messages", "500", "--qos", "1"],
    "offline-drain": "offline-store",
    "retain-store": ["retain", "--messages", "100000", "--qos", "1"],
    "retain-deliver": "retain-store",
}
UNBATCHED_P99_RATIO = 3.0

MOSQUITTO = """
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {data}/
max_inflight_messages 0
max_queued_messages 0
max_queued_bytes 0
set_tcp_nodelay true
"""

# So high that nothing is dropped; durability stays the default.
BIFRUST = """
[settings]
SessionInboxSize = 10000000
SessionInboxBytes = 17179869184
ReceivingMaximum = 65535
MaxInflight = 65535
"""


class Broker:
    """A running broker: its process and its port."""

    def __init__(self, name, process, port):
        self.name, self.process, self.port = name, process, port

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process):
    import socket

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the broker ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the broker does not listen after 20 s")


def start_mosquitto(folder):
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    if not os.path.exists(program):
        sys.exit("mosquitto is missing: apt-get install mosquitto")
    port, data = free_port(), folder / "mosquitto"
    data.mkdir()
    data.chmod(0o777)
    config = folder / "mosquitto.conf"
    config.write_text(MOSQUITTO.format(port=port, data=data))
    log = open(folder / "mosquitto.log", "w")
    process = subprocess.Popen([program, "-c", config], stdout=log, stderr=log)
    wait_for(port, process)
    return Broker("mosquitto", process, port)


def start_bifrust(program, folder):
    config, ready = folder / "bifrust.toml", folder / "ready.json"
    config.write_text(BIFRUST)
    log = open(folder / "bifrust.log", "w")
    process = subprocess.Popen(
        [program, "start", "--dev", "--config", config, "--data", folder / "bifrust"]
        + ["--tcp", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--api", "127.0.0.1:0"]
        + ["--ready-file", ready],
        stdout=log,
        stderr=log,
    )
    deadline = time.monotonic() + 20
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit((folder / "bifrust.log").read_text())
        time.sleep(0.05)
    addresses = json.loads(ready.read_text())
    broker = Broker("bifrust", process, int(addresses["tcp"].rsplit(":", 1)[1]))
    broker.api = addresses["api"]
    return broker


def run(program, broker, arguments, prefix, version):
    command = [program, "bench", *arguments, "--port", str(broker.port), "--json", "--quiet"]
    command += ["--pid", str(broker.process.pid), "--prefix", prefix, "--mqtt-version", version]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if not done.stdout:
        sys.exit(f"{broker.name}: {' '.join(map(str, command))}\n{done.stderr}")
    report = json.loads(done.stdout)
    return {phase["name"]: phase for phase in report["phases"]}


def measure(program, brokers, options):
    chosen = options.only.split(",") if options.only else [row[0] for row in SCENARIOS]
    results = {}
    for repeat in range(options.repeats):
        shared = {}
        for name, arguments, phase, _ in SCENARIOS:
            if name not in chosen:
                continue
            source = SHARED_RUNS.get(name)
            for broker in brokers:
                key = (source if isinstance(source, str) else name, broker.name)
                if key not in shared:
                    what = arguments or (SHARED_RUNS[source] if isinstance(source, str) else source)
                    prefix = f"{name}-{repeat}"
                    shared[key] = run(program, broker, what, prefix, options.mqtt_version)
                figures = shared[key][phase]
                results.setdefault((name, broker.name), []).append(figures)
                print(
                    f"{name:18} {broker.name:10} {figures['per_cpu_second'] or 0:>10.0f}/CPU-s"
                    f"  lost {figures['lost']}",
                    file=sys.stderr,
                )
    return chosen, results


def median(figures, key):
    return statistics.median(figure[key] or 0 for figure in figures)


def table(chosen, results):
    rows, failures = [], []
    for name, arguments, _, least in SCENARIOS:
        if name not in chosen:
            continue
        ours, theirs = results[name, "bifrust"], results[name, "mosquitto"]
        a, b = median(ours, "per_cpu_second"), median(theirs, "per_cpu_second")
        ratio = a / b if b else float("inf")
        lost = sum(figure["lost"] + figure["duplicates"] for figure in ours)
        verdict = "ok" if ratio >= least else "below"
        if ratio < least:
            failures.append(f"{name}: {ratio:.2f}x, {least}x is asked for")
        if lost and "qos0" not in name:
            failures.append(f"{name}: {lost} lost or doubled")
        rows.append(f"| {name} | {a:,.0f} | {b:,.0f} | {ratio:.2f}x | {least}x | {verdict} |")
        if name == "unbatched":
            p99 = [median([f["latency"] for f in fs], "p99_ms") for fs in (ours, theirs)]
            times = p99[0] / p99[1] if p99[1] else float("inf")
            rows.append(
                f"| unbatched p99 | {p99[0]:.2f} ms | {p99[1]:.2f} ms | {times:.2f}x |"
                f" at most {UNBATCHED_P99_RATIO}x | {'ok' if times <= UNBATCHED_P99_RATIO else 'above'} |"
            )
            if times > UNBATCHED_P99_RATIO:
                failures.append(f"unbatched: 99th percentile {times:.2f}x")
    head = "| scenario | BifRust /CPU-s | mosquitto /CPU-s | ratio | least | |\n|---|---|---|---|---|---|"
    return "\n".join([head, *rows]), failures


def replace_table(path, text):
    """Puts the table in the place of the one that begins alike; all else in the file stays."""
    page = path.read_text()
    start = page.index(text.partition("\n")[0])
    end = page.index("\n\n", start)
    path.write_text(page[:start] + text.rstrip("\n") + page[end:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--program", default=ROOT / "target/release/bifrust", type=pathlib.Path)
    parser.add_argument("--repeats", default=3, type=int)
    parser.add_argument("--only", help="comma-separated names of scenarios")
    parser.add_argument("--mqtt-version", default="5", choices=["3.1.1", "5"])
    parser.add_argument("--folder", help="a folder on a real disk for the brokers' data")
    parser.add_argument(
        "--markdown", type=pathlib.Path, help="put the table in the place of the one in that file"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o777)
        brokers = [start_mosquitto(folder)]
        try:
            brokers.append(start_bifrust(options.program, folder))
            chosen, results = measure(options.program, brokers, options)
        finally:
            for broker in brokers:
                broker.stop()
    text, failures = table(chosen, results)
    print(text)
    if options.markdown:
        replace_table(options.markdown, text)
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
