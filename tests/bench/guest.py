# SPDX-License-Identifier: Apache-2.0
"""scripts/bench guest: TPM round trips in a guest, PV and PVH, TPM 2.0 and 1.2.

The floor is a TPM whose driver and backend do what cannot be left out, and check nothing (tests/bench/pingpong): the TPM
core and its system calls, a page, an event, libtpms, an event back."""

import json
import os
import statistics
import sys

from lab import ROOT, Lab

BUILD = ROOT / "build/bench"
PCR_READ = {"2.0": "8001000000140000017e00000001000b03010000", "1.2": "00c10000000e0000001500000000"}
# The drivers take turns, so that a slow minute of the machine hits both.
TURNS = 3
ROUNDS = {"ours": 1000, "stock": 150}
GOALS = {"stock p50 / ours": "at least 10", "ours p50 / ping-pong": "at most 1.5, or",
         "ours p50 / floor": "at most 1.1"}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Guest:
    def __init__(self, lab, name, module):
        self.lab, self.name = lab, name
        for program in (BUILD / "tests/bench/latency", module):
            lab.run("push", "--guest", name, str(program), "/root/")
        self.domain = lab.dom0(f"xl domid {name}").stdout.strip()
        self.sh("mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug")

    def sh(self, script):
        return self.lab.guest(self.name, script, timeout=600).stdout

    def ping_pong(self, version, command):
        """Of each turn the median and the 99th percentile, in nanoseconds: of bare events, and of a command to the floor's TPM."""
        self.sh("insmod /root/pingpong.ko; udevadm settle")
        ring = self.sh("cat /sys/kernel/debug/pingpong/ring").strip()
        self.lab.dom0(f"systemd-run --quiet --unit=echo-{self.name} /root/echo {self.domain} {ring} {version}")
        device = self.sh("ls /sys/devices/platform/pingpong/tpm").strip()
        bare, floor = [], []
        for _ in range(TURNS):
            bare.append([int(word) for word in self.sh("cat /sys/kernel/debug/pingpong/run").split()[1:]])
            floor.append(self.tpm(command, ROUNDS["ours"], device))
        self.lab.dom0(f"systemctl stop echo-{self.name}")
        self.sh("rmmod pingpong")
        return bare, floor

    def load(self, driver):
        """The frontend starts over from Initialising, which the stock driver does not say by itself."""
        self.sh("echo vtpm-0 > /sys/bus/xen/devices/vtpm-0/driver/unbind; rmmod xen_tpmfront")
        self.lab.dom0(f"xenstore-write /local/domain/{self.domain}/device/vtpm/0/state 1; sleep 1")
        self.sh({"ours": "modprobe xen-tpmfront",
                 "stock": "insmod /lib/modules/$(uname -r)/kernel/drivers/char/tpm/xen-tpmfront.ko"}[driver])
        self.lab.await_tpm(self.name, "tpm0", limit=30)

    def tpm(self, command, rounds, device="tpm0"):
        """The median, the 99th percentile, and the time of all rounds, in nanoseconds."""
        return [int(word) for word in self.sh(f"/root/latency /dev/{device} {command} {rounds}").split()]


def measure(lab, type, module):
    rows = []
    for version in ("2.0", "1.2"):
        name = f"bench-{type}-{version[0]}"
        lab.create(name, "--type", type, "--tpm", version)
        guest = Guest(lab, name, module)
        say(f"{name}: ping-pong")
        bare, floor = guest.ping_pong(version, PCR_READ[version])
        turns = {"ping-pong": bare, "floor": floor, "ours": [], "stock": []}
        for turn in range(TURNS):
            for driver in ROUNDS:
                say(f"{name}: {driver}, turn {turn + 1} of {TURNS}")
                guest.load(driver)
                turns[driver].append(guest.tpm(PCR_READ[version], ROUNDS[driver]))
        rows.append(row(type, version, turns))
        lab.destroy(name)
    return rows


def row(type, version, turns):
    """The median of the turns, and ratios of medians."""
    middle = {of: [statistics.median(column) for column in zip(*figures)] for of, figures in turns.items()}
    per_second = {driver: rounds * 1e9 / middle[driver][2] for driver, rounds in ROUNDS.items()}

    def ratio(of, to, figure=0):
        return middle[of][figure] / middle[to][figure]

    return {
        "guest": type, "TPM": version, "nanoseconds": turns,
        "stock p50 / ours": ratio("stock", "ours"),
        "stock p50 / floor": ratio("stock", "floor"),  # no driver gets beyond it
        "stock p99 / ours": ratio("stock", "ours", 1),
        "ours commands/s / stock": per_second["ours"] / per_second["stock"],
        "ours p50 / ping-pong": ratio("ours", "ping-pong"),
        "ours p50 / floor": ratio("ours", "floor"),
        "ours p99 / floor": ratio("ours", "floor", 1),
        "floor p50 / ping-pong": ratio("floor", "ping-pong"),
    }


def show(rows):
    ratios = [key for key in rows[0] if "/" in key]
    print(f"{'TPM round trip (PCR_Read)':28}" + "".join(f"{row['guest'] + ' ' + row['TPM']:>10}" for row in rows) + "  goal")
    for ratio in ratios:
        print(f"{ratio:28}" + "".join(f"{row[ratio]:10.2f}" for row in rows) + f"  {GOALS.get(ratio, '')}")


def in_lab(measure):
    """What measure(lab, type, module) says of each type of guests, in a lab of its own; `module`: the ping-pong's."""
    lab = Lab(os.environ.get("XEN_VTPM_LAB", "bench"))
    lab.run("up", timeout=3000)
    try:
        lab.run("push", str(BUILD / "tests/bench/echo"), "/root/echo")
        module = lab.build_module("tests/bench/pingpong")
        return {type: measure(lab, type, module) for type in ("pv", "pvh")}
    finally:
        lab.run("down")


def main():
    rows = [row for rows in in_lab(measure).values() for row in rows]
    (BUILD / "guest.json").write_text(json.dumps(rows, indent=2) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
