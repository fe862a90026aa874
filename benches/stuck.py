#!/usr/bin/env python3
"""One subscriber that never reads, among 500: do the others notice?

For QoS 0, QoS 1 transient and QoS 1 persistent in turn, a fan-out to 500 subscribers runs with
and without one more subscriber that never reads, alternating. Nothing may be lost by the others,
and the median of their 99th percentiles may grow by half at most. The events of the broker say
what the stuck one got: dropped messages, a disconnection, a refusal.

    cargo build --release && benches/stuck.py
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import urllib.request

import compare

RATIO_MOST = 1.5
KINDS = [
    ("QoS 0", ["--qos", "0"], [], ["QOS0_DROPPED"]),
    ("QoS 1, transient", ["--qos", "1"], [], ["OVERFLOWED"]),
    ("QoS 1, persistent", ["--qos", "1"], ["--stuck-persistent"], ["OVERFLOWED"]),
]
LOAD = ["fan-out", "--clients", "500", "--size", "16384", "--rate", "30", "--seconds", "12"]
SETTINGS = "[settings]\nSessionInboxSize = 100\n"


def events(broker):
    with urllib.request.urlopen(f"http://{broker.api}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    found = {}
    for line in lines:
        if line.startswith("bifrust_events_total{"):
            name = line.split('type="', 1)[1].split('"', 1)[0]
            found[name] = float(line.rsplit(" ", 1)[1])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--program", default=compare.ROOT / "target/release/bifrust", type=pathlib.Path)
    parser.add_argument("--repeats", default=5, type=int)
    options = parser.parse_args()
    compare.BIFRUST = SETTINGS
    failures, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        broker = compare.start_bifrust(options.program, pathlib.Path(folder))
        try:
            for name, load, stuck, expected in KINDS:
                before, p99, lost = events(broker), {True: [], False: []}, 0
                for repeat in range(options.repeats):
                    for is_stuck in (False, True):
                        extra = ["--stuck", "1", *stuck] if is_stuck else []
                        prefix = f"{name}-{repeat}-{is_stuck}".replace(" ", "").replace(",", "-")
                        figures = compare.run(
                            options.program, broker, [*LOAD, *load, *extra], prefix, "5"
                        )["deliver"]
                        p99[is_stuck].append(figures["latency"]["p99_ms"])
                        lost += figures["lost"]
                        print(f"{name:18} stuck={is_stuck!s:5} p99 {p99[is_stuck][-1]:.2f} ms", file=sys.stderr)
                without, with_it = statistics.median(p99[False]), statistics.median(p99[True])
                ratio = with_it / without
                after = events(broker)
                answers = {kind: after.get(kind, 0) - before.get(kind, 0) for kind in expected}
                rows.append(
                    f"| {name} | {without:.2f} ms | {with_it:.2f} ms | {ratio:.2f}x | {lost} |"
                    f" {', '.join(f'{kind} {count:.0f}' for kind, count in answers.items())} |"
                )
                if ratio > RATIO_MOST:
                    failures.append(f"{name}: the 99th percentile grew {ratio:.2f}x")
                if lost:
                    failures.append(f"{name}: the others lost {lost}")
                if not all(answers.values()):
                    failures.append(f"{name}: the stuck one was not answered: {answers}")
        finally:
            broker.stop()
    print("| stuck subscriber | p99 without | p99 with | ratio | lost by others | events |")
    print("|---|---|---|---|---|---|\n" + "\n".join(rows))
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
