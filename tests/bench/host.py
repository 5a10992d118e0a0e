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
        "growth": {"COMMANDS": 1_000_000 if long else 200_000, "CYCLES": 10_000 if long else 2000},
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
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    size = sizes(long)
    raw = {name: measure(name, log, **size[name]) for name in ("round trip", "throughput", "durable", "growth")}
    for guests, turns in size["guests"]["TURNS"].items():
        if guests * DESCRIPTORS_PER_GUEST > descriptors:
            raw[f"{guests} guests"] = {"failed": f"a process may have only {descriptors} descriptors (ulimit -Hn)"}
            continue
        raw[f"{guests} guests"] = measure("guests", log, GUESTS=guests, TURNS=turns, IDLE=size["guests"]["IDLE"])
    return raw


# ---- the table: rows of ours, a peer's, and the ratio that has a goal; and notes ----


def row(what, ours, peer, figure, goal):
    """`goal` is "at most" or "at least", and a limit."""
    met = figure <= goal[1] if goal[0] == "at most" else figure >= goal[1]
    return {"figure": what, "ours": ours, "peer": peer, "value": round(figure, 3), "goal": "{} {}".format(*goal), "met": met}


def note(what, text):
    return {"figure": what, "note": text}


def round_trips(raw):
    for where, commands in raw["microseconds"].items():
        for command, turns in commands.items():
            us = {who: statistics.median(values) for who, values in turns.items()}
            floor = us["ping-pong"] + us["direct"]
            what = f"round trip, {where}, {command}"
            yield row(f"{what}: ours / floor", f"{us['ours']:.1f} us", f"{us['ping-pong']:.1f} + {us['direct']:.1f} us",
                      us["ours"] / floor, ("at most", 1.1))
            yield note("  ours / swtpm; the floor / swtpm",
                       f"{us['ours'] / us['swtpm']:.2f}; {floor / us['swtpm']:.2f} ({us['swtpm']:.1f} us)")


def throughputs(raw):
    for guests, turns in sorted(raw["commands per second"].items(), key=lambda item: int(item[0])):
        rate = {who: statistics.median(values) for who, values in turns.items()}
        # Between two processes on two processors it is the round trip again.
        yield row(f"commands, {guests} guests: ours / ping-pong", f"{rate['ours']:.0f} /s", f"{rate['ping-pong']:.0f} /s",
                  rate["ours"] / rate["ping-pong"], ("at least", 0.8))
        yield note("  ours / swtpm", f"{rate['ours'] / rate['swtpm']:.2f} ({rate['swtpm']:.0f} /s)")


def starts_and_memory(raw):
    count = raw["guests"]
    start = {who: statistics.median(values) * 1e3 for who, values in raw["start, seconds"].items()}
    yield row(f"start of {count} existing vTPMs: ours / swtpm", f"{start['ours']:.1f} ms", f"{start['swtpm']:.1f} ms",
              start["ours"] / start["swtpm"], ("at most", 0.18 if count == 1000 else 0.3))
    pss = {who: statistics.median(values) / count for who, values in raw["PSS, KiB"].items()}
    ratio = pss["ours"] / pss["swtpm"]
    if count == 1:  # the zygote is most of it
        yield note("memory of an idle vTPM: ours / swtpm", f"{ratio:.2f} ({pss['ours']:.0f} KiB)")
        return
    yield row(f"memory of each of {count} idle vTPMs: ours / swtpm", f"{pss['ours']:.0f} KiB", f"{pss['swtpm']:.0f} KiB",
              ratio, ("at most", 0.22 if count == 1000 else 0.3))


def durable_writes(raw, ping_pong):
    """`ping_pong`, us: two wake-ups of another processor. A change has four: guest, engine, manager and back."""
    appends = statistics.median(raw["fdatasync"]["per second"])
    one, many = (statistics.median(raw[guests]["per second"]) for guests in ("1", "100"))
    yield row("durable NV writes, 1 guest / fdatasync", f"{one:.0f} /s", f"{appends:.0f} /s", one / appends, ("at least", 0.7))
    if ping_pong:
        floor = 1e6 / (1e6 / appends + 2 * ping_pong)
        yield note("  fdatasync and four wake-ups / fdatasync", f"{floor / appends:.2f} ({floor:.0f} /s)")
    yield row("durable NV writes, 100 guests / 1 guest", f"{many:.0f} /s", f"{one:.0f} /s", many / one, ("at least", 10))
    for guests in ("1", "100"):
        cores = [f"{who} {statistics.median(values):.2f}" for who, values in raw[guests]["cores"].items()]
        busy = statistics.median(raw[guests]["machine busy"])
        yield note(f"  processors busy, {guests} guests", f"{busy:.0%} of all; cores: {', '.join(cores)}")


def ping_pong_of(round_trip):
    """0: it was not measured."""
    commands = round_trip.get("microseconds", {}).get("two cores", {})
    return statistics.median([us for turns in commands.values() for us in turns["ping-pong"]] or [0])


def wake_ups(raw):
    for who, count in raw["wake-ups"].items():
        asks_xenstored = 2 if who == "daemon" else 0
        yield row(f"wake-ups while {raw['guests']} guests idle: {who}", f"{count}", "", count, ("at most", asks_xenstored))


def growth(raw):
    """Of the second half: caches are full by then, a leak is not."""
    for who, kib in raw["anonymous memory, KiB"].items():
        count, what = (raw["commands"], "commands") if who == "engine" else (raw["attaches"], "attaches")
        middle = kib[len(kib) // 2]
        yield row(f"growth in KiB over {count // 2} more {what}: {who}", f"{kib[-1]}", f"{middle}", kib[-1] - middle,
                  ("at most", 0))


def table(raw):
    parts = {"round trip": [round_trips], "throughput": [throughputs], "1 guests": [starts_and_memory],
             "100 guests": [starts_and_memory], "1000 guests": [starts_and_memory, wake_ups],
             "durable": [lambda figures: durable_writes(figures, ping_pong_of(raw["round trip"]))], "growth": [growth]}
    for name, rows in parts.items():
        for of in rows:
            failed = raw[name].get("failed")
            yield from [note(name, f"NOT REACHED: {failed}")] if failed else of(raw[name])


def show(rows):
    print(f"{'':54}{'ours':>12}{'peer':>16}{'ratio':>8}  goal")
    for line in rows:
        if "note" in line:
            print(f"{line['figure']:54}{line['note']:>12}")
            continue
        verdict = "" if line["met"] else "  MISSED"
        print(f"{line['figure']:54}{line['ours']:>12}{line['peer']:>16}{line['value']:8.3f}  {line['goal']}{verdict}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench host", description=__doc__)
    parser.add_argument("--long", action="store_true", help="a million commands and ten thousand attaches")
    arguments = parser.parse_args()
    machine = {"kernel": platform.release(), "processors": os.cpu_count(), "load": os.getloadavg()[0]}
    os.sched_setaffinity(0, {0, 1})
    with open(BUILD / "host.log", "w") as log:
        raw = measure_all(arguments.long, log)
    rows = [note("load of the machine before, which is to be 0", f"{machine['load']:.1f}"), *table(raw)]
    (BUILD / "host.json").write_text(json.dumps({"machine": machine, "rows": rows, "raw": raw}, indent=1) + "\n")
    show(rows)


main()
