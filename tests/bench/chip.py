# SPDX-License-Identifier: Apache-2.0
"""scripts/bench chip: the manager on a hardware TPM that is as slow as chips are."""

import json
import os
import pathlib
import subprocess

BUILD = pathlib.Path(__file__).resolve().parents[2] / "build/bench"


def main():
    count = int(os.environ.setdefault("CHIP_VTPMS", "100"))
    ran = subprocess.run([BUILD / "tests/bench/chip"], capture_output=True, text=True)
    if ran.returncode != 0:
        raise SystemExit(ran.stdout + ran.stderr)
    figures = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("{")))
    alone = "dom0's extend, ms: alone, mean"
    beside = "dom0's extend, ms: beside attestations, mean"
    figures["dom0's extend: beside attestations / alone"] = figures[beside] / figures[alone]
    figures["PCR readings a second, power-ons"] = (
        figures["power-ons with host_pcrs: PCR reads"] / 8 / figures["power-ons with host_pcrs"])
    goals = {
        "start, 8 groups": 4, "new vTPMs at once: failed": 0, "power-ons with host_pcrs: failed": 0,
        "PCR readings a second, power-ons": 1, "dom0's extend: beside attestations / alone": 2,
    }
    print(f"{f'{count} vTPMs':54}{'':>10}{'at most':>10}")
    for name, value in sorted(figures.items()):
        goal = goals.get(name)
        missed = "" if goal is None or value <= goal else "  MISSED"
        print(f"{name:54}{value:10.3f}{'' if goal is None else goal:>10}{missed}")
    (BUILD / "chip.json").write_text(json.dumps(figures, indent=2) + "\n")


main()
