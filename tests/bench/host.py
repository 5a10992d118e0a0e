# SPDX-License-Identifier: Apache-2.0
"""scripts/bench host: the engines on a machine without Xen, against swtpm and against what the machine itself needs."""

import argparse
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys

BUILD = pathlib.Path(__file__).resolve().parents[2] / "build/bench"
# A guest has three descriptors here and two more in the daemon; the manager has one.
DESCRIPTORS_PER_GUEST = 6
# The store is to lie on a disk, which /tmp may not be.
DISK = "/var/tmp"


def sizes(long):
    return {
        "round trip": {"TURNS": 20 if long else 10, "ROUNDS": 2000},
        "throughput": {"TURNS": 5 if long else 3, "MILLISECONDS": 1000},
        "guests": {"TURNS": {1: 20, 100: 5, 1000: 3}, "IDLE": 10},
        "durable": {"TURNS": 5 if long else 3, "MILLISECONDS": 2000},
        "growth": {"COMMANDS": 1_000_000 if long else 200_000, "CYCLES": 10_000 if long else 500},
    }


def measure(name, log, **size):
    """The figures that the program prints, or {"failed": why}."""
    print(name, *(f"{key}={value}" for key, value in size.items()), file=sys.stderr, flush=True)
    environment = os.environ | {"TMPDIR": DISK} | {key: str(value) for key, value in size.items()}
    ran = subprocess.run([BUILD / "tests/bench/host", name], env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    figures = next((line for line in ran.stdout.splitlines() if line.startswith("{")), None)
    if ran.returncode == 0 and figures:
        return json.loads(figures)
    return {"failed": next((line.strip() for line in ran.stdout.splitlines() if line.startswith("  ")), "ended early")}


def measure_all(long, log):
    size = sizes(long)
    raw = {name: measure(name, log, **size[name]) for name in ("round trip", "throughput", "durable", "growth")}
    for guests, turns in size["guests"]["TURNS"].items():
        raw[f"{guests} guests"] = measure("guests", log, GUESTS=guests, TURNS=turns, IDLE=size["guests"]["IDLE"])
    return raw


# ---- the table: rows of what, ours, the peer's, and the figure that has a goal ----


def row(what, ours, peer, figure, goal):
    """`goal` is ("at most" or "at least", limit), or None."""
    met = goal is None or (figure <= goal[1] if goal[0] == "at most" else figure >= goal[1])
    return {"figure": what, "ours": ours, "peer": peer, "value": round(figure, 3),
            "goal": " ".join(map(str, goal)) if goal else "", "met": met}


def not_reached(what, why):
    return {"figure": what, "ours": f"not reached: {why}", "peer": "", "value": None, "goal": "", "met": False}


def round_trips(raw):
    for where, commands in raw["microseconds"].items():
        for command, turns in commands.items():
            us = {who: statistics.median(values) for who, values in turns.items()}
            floor = us["ping-pong"] + us["direct"]
            what = f"round trip, {where}: {command}"
            yield row(f"{what} / swtpm", f"{us['ours']:.1f} us", f"{us['swtpm']:.1f} us",
                      us["ours"] / us["swtpm"], ("at most", 0.25))
            yield row(f"{what} / floor", f"{us['ours']:.1f} us", f"{us['ping-pong']:.1f} + {us['direct']:.1f} us",
                      us["ours"] / floor, ("at most", 1.3))


def throughputs(raw):
    for guests, turns in raw["commands per second"].items():
        rate = {who: statistics.median(values) for who, values in turns.items()}
        yield row(f"throughput, guests: {guests} / swtpm", f"{rate['ours']:.0f} /s", f"{rate['swtpm']:.0f} /s",
                  rate["ours"] / rate["swtpm"], ("at least", 3))


def starts_and_memory(raw):
    count = raw["guests"]
    start = {who: statistics.median(values) * 1e3 for who, values in raw["start, seconds"].items()}
    yield row(f"start of an existing vTPM, at once: {count} / swtpm", f"{start['ours']:.1f} ms", f"{start['swtpm']:.1f} ms",
              start["ours"] / start["swtpm"], ("at most", 0.5))
    pss = {who: statistics.median(values) / count for who, values in raw["PSS, KiB"].items()}
    yield row(f"memory per idle vTPM: {count} / swtpm", f"{pss['ours']:.0f} KiB", f"{pss['swtpm']:.0f} KiB",
              pss["ours"] / pss["swtpm"], ("at most", 0.3))


def durable_writes(raw):
    appends = statistics.median(raw["fdatasync"]["per second"])
    one, many = (statistics.median(raw[guests]["per second"]) for guests in ("1", "100"))
    yield row("durable NV writes, 1 guest / fdatasync", f"{one:.0f} /s", f"{appends:.0f} /s", one / appends, ("at least", 0.7))
    yield row("durable NV writes, 100 guests / 1 guest", f"{many:.0f} /s", f"{one:.0f} /s", many / one, ("at least", 10))
    for guests in ("1", "100"):
        cores = {who: statistics.median(values) for who, values in raw[guests]["cores"].items()}
        busy = statistics.median(raw[guests]["machine busy"])
        yield row(f"  processor meanwhile, guests: {guests}", ", ".join(f"{who} {use:.2f}" for who, use in cores.items()),
                  "all cores", busy, None)


def wake_ups(raw):
    for who, count in raw["wake-ups"].items():
        yield row(f"wake-ups in 10 s, {raw['guests']} idle guests: {who}", str(count), "", count, ("at most", 0))


def growth(raw):
    for who, kib in ((key.split(",")[0], values) for key, values in raw.items() if isinstance(values, list)):
        during = f"{raw['commands']} commands" if who == "engine" else f"{raw['cycles']} attaches"
        yield row(f"memory growth, KiB, {during}: {who}", f"{kib[-1]} KiB", f"{kib[1]} KiB", kib[-1] - kib[1], ("at most", 0))


def table(raw):
    parts = {"round trip": [round_trips], "throughput": [throughputs], "1 guests": [starts_and_memory],
             "100 guests": [starts_and_memory], "1000 guests": [starts_and_memory, wake_ups],
             "durable": [durable_writes], "growth": [growth]}
    for name, rows in parts.items():
        for of in rows:
            yield from [not_reached(name, raw[name]["failed"])] if "failed" in raw[name] else of(raw[name])


def show(rows):
    print(f"{'':58}{'ours':>14}{'peer':>18}{'figure':>9}  goal")
    for line in rows:
        if line["value"] is None:
            print(f"{line['figure']:58}{line['ours']}")
            continue
        verdict = "" if line["met"] else "  MISSED"
        print(f"{line['figure']:58}{line['ours']:>14}{line['peer']:>18}{line['value']:9.2f}  {line['goal']}{verdict}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench host", description=__doc__)
    parser.add_argument("--long", action="store_true", help="a million commands and ten thousand attaches: a quarter of an hour")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 1000 * DESCRIPTORS_PER_GUEST:
        print(f"1000 guests need more descriptors than the {hard} that a process may have", file=sys.stderr)
    with open(BUILD / "host.log", "w") as log:
        raw = measure_all(arguments.long, log)
    rows = list(table(raw))
    machine = {"kernel": platform.release(), "processors": os.cpu_count()}
    (BUILD / "host.json").write_text(json.dumps({"machine": machine, "rows": rows, "raw": raw}, indent=1) + "\n")
    show(rows)


main()
