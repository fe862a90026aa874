#!/usr/bin/env python3
"""How the broker grows: filters, retained topics, topics that are new, idle connections.

Every line has a bar; the script prints pass or fail for each and ends with exit code 1 if any
failed. Memory is the resident set of the broker's own process as the operating system accounts
for it, the program's own pages included; "at its most" is what that system saw as the highest.
The curve of match latency is printed as a table. It needs openssl for a certificate.

    cargo build --release && benches/scale.py
    benches/scale.py --only idle,scan --scale 0.1
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIB = 1 << 20
CONFIG = """
[limits]
memory_limit = "768MiB"
[settings]
MaxTopicFiltersPerInbox = 1000000
"""
CLIENTS = 100


class Broker:
    """A broker in a folder of its own; it can be killed and started again."""

    def __init__(self, program, folder):
        self.program, self.folder = program, pathlib.Path(folder)
        (self.folder / "bifrust.toml").write_text(CONFIG)
        self.log = open(self.folder / "bifrust.log", "a")
        self.seconds = self.start()

    def start(self):
        certificate = self.folder / "cert.pem"
        key = self.folder / "key.pem"
        if not key.exists():
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
                + ["-keyout", key, "-out", certificate, "-subj", "/CN=localhost"],
                check=True,
                capture_output=True,
            )
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        began = time.monotonic()
        self.process = subprocess.Popen(
            [self.program, "start", "--dev", "--config", self.folder / "bifrust.toml"]
            + ["--data", self.folder / "data", "--tcp", "127.0.0.1:0", "--ws", "127.0.0.1:0"]
            + ["--tls", "127.0.0.1:0", "--cert", certificate, "--key", key, "--api", "off", "--ready-file", ready],
            stdout=self.log,
            stderr=self.log,
        )
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() - began > 300:
                sys.exit(f"the broker does not start: see {self.log.name}")
            time.sleep(0.02)
        took = time.monotonic() - began
        addresses = json.loads(ready.read_text())
        self.port = int(addresses["tcp"].rsplit(":", 1)[1])
        self.urls = {
            "tcp": f"mqtt://{addresses['tcp']}",
            "tls": f"mqtts://{addresses['tls']}",
            "ws": f"ws://{addresses['ws']}/mqtt",
        }
        self.pid = self.process.pid
        return took

    def restart(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return self.start()

    def resident(self, field="VmRSS"):
        for line in open(f"/proc/{self.pid}/status"):
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        return 0

    def most_resident(self):
        return self.resident("VmHWM")

    def cpu_seconds(self):
        fields = open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def bench(self, *arguments, kind="tcp"):
        command = [self.program, "bench", *map(str, arguments), "--url", self.urls[kind]]
        command += ["--insecure"] if kind == "tls" else []
        command += ["--pid", str(self.pid), "--json", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not done.stdout:
            sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
        return json.loads(done.stdout)["phases"]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def broker(options):
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        one = Broker(options.program, folder)
        try:
            yield one
        finally:
            one.stop()


class Results:
    def __init__(self):
        self.rows, self.failed = [], False

    def add(self, name, value, unit, bar):
        passed = value <= bar
        self.failed |= not passed
        self.rows.append(f"| {name} | {value:,.2f} {unit} | {bar:,g} {unit} | {'pass' if passed else 'FAIL'} |")
        print(self.rows[-1], file=sys.stderr, flush=True)

    def print(self):
        print("| what | measured | at most | |\n|---|---|---|---|\n" + "\n".join(self.rows))


def filters(options, results, kind):
    total = int(1_000_000 * options.scale)
    with broker(options) as one:
        before = one.resident()
        extra = ["--persistent"] if kind == "persistent" else []
        phases = one.bench("subscribe", "--clients", CLIENTS, "--filters", total // CLIENTS, *extra)
        filled = [phase for phase in phases if phase["name"] == "subscribe"]
        last = filled[-1]
        print(f"{kind}: {before / MIB:.1f} MiB before the first filter", file=sys.stderr)
        if kind == "persistent":
            resident = last["broker_resident_bytes"] / MIB
            results.add(f"{total:,} filters of persistent sessions: memory", resident, "MiB", 600)
            results.add("at its most", one.most_resident() / MIB, "MiB", 600)
            results.add("restart with them, after kill -9", one.restart(), "s", 30)
            results.add("memory after that", one.resident() / MIB, "MiB", 600)
        else:
            results.add(f"{total:,} filters of transient sessions: each", last["resident_bytes_each"], "bytes", 600)
        probes = [phase for phase in phases if phase["name"] != "subscribe"]
        curve = {}
        for phase in probes:
            curve.setdefault(phase["filters"], {})[phase["name"]] = phase
        print(f"\n| filters ({kind}) | known topic, p50 | p99 | new topic, p50 | p99 |\n|---|---|---|---|---|")
        for held, at in curve.items():
            cells = [f"{at[name]['latency'][part]:.3f} ms" for name in ("warm", "cold") for part in ("p50_ms", "p99_ms")]
            print(f"| {held:,} | {' | '.join(cells)} |")
        print(flush=True)
        warm = [at["warm"]["latency"]["p50_ms"] for at in curve.values()]
        results.add(f"known topic, {kind}: last to first number of filters", warm[-1] / warm[0], "x", 3)


def retained(options, results):
    total = int(1_000_000 * options.scale)
    with broker(options) as one:
        one.bench("retain", "--messages", total, "--size", 256, "--qos", 1)
        time.sleep(10)
        results.add(f"{total:,} retained topics of 256 bytes: memory", one.resident() / MIB, "MiB", 400)
        results.add("at its most", one.most_resident() / MIB, "MiB", 400)
        results.add("restart with them, after kill -9", one.restart(), "s", 30)
        results.add("memory after that", one.resident() / MIB, "MiB", 400)


def scan(options, results):
    """Publishes to topics that are new. Half of the runs match a filter, each is a match to keep; the
    others lead nowhere, each is a gap between routes to keep."""
    total = int(10_000_000 * options.scale)
    per_write = 500
    for first_level, outcome in (("scan", "match a filter"), ("none", "match none")):
        with broker(options) as one:
            client = Client(one.port, "scan", "scan/+/+/#", "end")
            before, began = one.resident(), time.monotonic()
            for first in range(0, total, per_write):
                packets = bytearray()
                for n in range(first, first + per_write):
                    packets += publish(f"{first_level}/{n // 1000}/{n}/x".encode())
                client.socket.sendall(packets + publish(b"end"))
                client.drain(per_write + 1 if first_level == "scan" else 1)
            rate = total / (time.monotonic() - began)
            growth = (one.most_resident() - before) / MIB
            print(f"scan: {rate:,.0f} new topics a second", file=sys.stderr)
            results.add(f"{total:,} new topics that {outcome}: growth of memory", growth, "MiB", 256)


def idle(options, results):
    for kind, count, bar in (("tcp", 15_000, 2.0), ("ws", 15_000, 6.0), ("tls", 2_000, 40.0)):
        count = int(count * options.scale)
        with broker(options) as one:
            phase = one.bench("connect", "--clients", count, "--hold", 10, kind=kind)[0]
            each = phase["resident_bytes_each"] / 1024
            results.add(f"{count:,} idle connections, {kind.upper()}: each", each, "KiB", bar)
    count = int(15_000 * options.scale)
    with broker(options) as one:
        before = one.resident()
        clients = [Client(one.port, f"idle{index}", f"idle/{index}") for index in range(count)]
        time.sleep(10)
        each = (one.resident() - before) / count / 1024
        results.add(f"{count:,} with one subscription, TCP: each", each, "KiB", 2.6)
        results.add("a core's part while they only ping", ping(one, clients), "%", 2.0)


def ping(one, clients):
    """Lets each client ping once in 60 s, evenly, and says what part of a core the broker took."""
    spent, began = one.cpu_seconds(), time.monotonic()
    for index, client in enumerate(clients):
        due = began + 60 * index / len(clients)
        time.sleep(max(0, due - time.monotonic()))
        client.socket.sendall(b"\xc0\x00")
    time.sleep(max(0, began + 60 - time.monotonic()))
    return (one.cpu_seconds() - spent) / (time.monotonic() - began) * 100


class Client:
    """The least of an MQTT 5 client."""

    def __init__(self, port, name, *filters):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.rest = b""
        body = b"\0\4MQTT\5\2" + struct.pack(">H", 60) + b"\0" + text(name)
        self.socket.sendall(b"\x10" + length(len(body)) + body)
        self.skip(2)
        for number, name in enumerate(filters, 1):
            body = struct.pack(">H", number) + b"\0" + text(name) + b"\0"
            self.socket.sendall(b"\x82" + length(len(body)) + body)
            self.skip(2)

    def skip(self, head):
        """Reads one packet, of at most 127 bytes, away: its length stands last in the head."""
        got = self.exactly(head)
        self.exactly(got[-1])

    def exactly(self, count):
        while len(self.rest) < count:
            more = self.socket.recv(65536)
            if not more:
                sys.exit("the broker closed a connection")
            self.rest += more
        got, self.rest = self.rest[:count], self.rest[count:]
        return got

    def drain(self, count):
        """Reads so many short packets away."""
        at, rest = 0, self.rest
        while count > 0:
            if len(rest) - at < 2 or len(rest) - at < 2 + rest[at + 1]:
                rest, at = rest[at:] + self.socket.recv(1 << 20), 0
                continue
            at += 2 + rest[at + 1]
            count -= 1
        self.rest = rest[at:]


def publish(topic):
    return bytes([0x30, len(topic) + 3]) + struct.pack(">H", len(topic)) + topic + b"\0"


def text(value):
    return struct.pack(">H", len(value)) + value.encode()


def length(value):
    assert value < 128
    return bytes([value])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--program", default=ROOT / "target/release/bifrust", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path, help="where data folders are made")
    parser.add_argument("--only", help="of persistent, transient, retained, scan, idle")
    parser.add_argument("--scale", default=1.0, type=float, help="part of the full numbers")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    lines = {
        "persistent": lambda: filters(options, results, "persistent"),
        "transient": lambda: filters(options, results, "transient"),
        "retained": lambda: retained(options, results),
        "scan": lambda: scan(options, results),
        "idle": lambda: idle(options, results),
    }
    results = Results()
    for name, line in lines.items():
        if options.only is None or name in options.only.split(","):
            line()
    results.print()
    sys.exit(1 if results.failed else 0)


if __name__ == "__main__":
    main()
