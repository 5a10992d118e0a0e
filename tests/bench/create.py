# SPDX-License-Identifier: Apache-2.0
"""A new TPM 2.0: ours from the attach to its being connected, against swtpm_setup, which makes its state only."""

import json
import pathlib
import statistics
import subprocess

BUILD = pathlib.Path(__file__).resolve().parents[2] / "build/bench"
GOALS = {"certified": 0.25, "plain": 0.1}


def main():
    ran = subprocess.run([BUILD / "tests/bench/create"], capture_output=True, text=True)
    if ran.returncode != 0:
        raise SystemExit(ran.stdout + ran.stderr)
    times = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("{")))
    report = {"seconds": times}
    print(f"{'a new TPM 2.0':24}{'median':>8}{'p90':>8}{'ratio':>8}{'goal':>8}")
    for kind, goal in GOALS.items():
        middle = {who: statistics.median(times[f"{who}, {kind}"]) for who in ("swtpm_setup", "ours")}
        report[f"ours / swtpm_setup, {kind}"] = ratio = middle["ours"] / middle["swtpm_setup"]
        for who in middle:
            tail = statistics.quantiles(times[f"{who}, {kind}"], n=10)[-1]
            extra = f"{ratio:8.2f}{goal:8.2f}" if who == "ours" else ""
            print(f"{who + ', ' + kind:24}{middle[who]:8.3f}{tail:8.3f}{extra}")
    (BUILD / "create.json").write_text(json.dumps(report, indent=2) + "\n")


main()
