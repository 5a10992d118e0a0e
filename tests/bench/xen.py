# SPDX-License-Identifier: Apache-2.0
"""scripts/bench lab: the engine in Xen, with a guest's page and event channel, real xenstore, daemons as services."""

import json
import re
import statistics

from guest import BUILD, PCR_READ, TURNS, Guest, in_lab, say

EMPTY_PASSWORD = "00000009" "40000009" "0000" "00" "0000"
COUNTER = "01500001"


def command(tag, code, body):
    return f"{tag}{10 + len(body) // 2:08x}{code:08x}{body}"


COMMANDS = {
    "PCR_Read": PCR_READ["2.0"],
    "PCR_Extend": command("8002", 0x182, "0000000a" + EMPTY_PASSWORD + "00000001" "000b" + "5a" * 32),
    "GetRandom(16)": command("8001", 0x17B, "0010"),
}
NV_INCREMENT = command("8002", 0x134, COUNTER + COUNTER + EMPTY_PASSWORD)
ROUNDS = 500
CHANGES = 200
IDLE = 10  # seconds
STORE = "/var/lib/xen-vtpm"


def commands(guest):
    say(f"{guest.name}: ping-pong")
    bare, _ = guest.ping_pong("2.0", PCR_READ["2.0"])
    floor = statistics.median(turn[0] for turn in bare)
    guest.load("ours")
    for name, sent in COMMANDS.items():
        say(f"{guest.name}: {name}")
        turns = [guest.tpm(sent, ROUNDS)[0] for _ in range(TURNS)]
        yield f"{name}: p50 / ping-pong", statistics.median(turns) / floor


def durable_changes(guest):
    """A counter's increment is a change each time. The floor is what dd makes durable in the store's file system."""
    say(f"{guest.name}: durable changes")
    guest.sh(f"tpm2_nvdefine -Q 0x{COUNTER} -C o -a 'nt=counter|authread|authwrite'")
    ours, floor = [], []
    for _ in range(TURNS):
        ours.append(CHANGES * 1e9 / guest.tpm(NV_INCREMENT, CHANGES)[2])
        wrote = guest.lab.dom0(f"LC_ALL=C dd if=/dev/zero of={STORE}/bench bs=512 count={CHANGES} oflag=append,dsync "
                               f"conv=notrunc 2>&1; rm {STORE}/bench").stdout
        floor.append(CHANGES / float(re.search(r"copied, ([0-9.e-]+) s", wrote)[1]))
    guest.sh(f"tpm2_nvundefine -Q 0x{COUNTER} -C o")
    yield "durable NV changes / fdatasync", statistics.median(ours) / statistics.median(floor)


def processes(lab):
    """The pids of each of our programs in dom0."""
    lines = lab.dom0("ps -eo pid=,ppid=,comm=").stdout.splitlines()
    found = {}
    for pid, parent, name in (line.split(None, 2) for line in lines):
        if name.startswith("xen-vtpm"):
            found.setdefault(name, {})[pid] = parent
    engines = found.pop("xen-vtpm-engine")
    zygotes = engines.keys() & set(engines.values())
    return {"daemon": [*found["xen-vtpmd"]], "manager": [*found["xen-vtpm-manage"]], "zygote": [*zygotes],
            "engines": [*(engines.keys() - zygotes)]}


def sleeps(lab, pids):
    """How often they went to sleep, all threads of them."""
    files = " ".join(f"/proc/{pid}/task/*/status" for pid in pids)
    return sum(int(line.split()[1]) for line in lab.dom0(f"grep -h ^voluntary_ctxt {files}").stdout.splitlines())


def idle(lab):
    say(f"idle for {IDLE} s")
    running = processes(lab)
    before = {who: sleeps(lab, pids) for who, pids in running.items()}
    lab.dom0(f"sleep {IDLE}")
    for who, pids in running.items():
        yield f"wake-ups in {IDLE} s: {who}", sleeps(lab, pids) - before[who]
    for who, pids in running.items():
        pss = lab.dom0(f"grep -h ^Pss: {' '.join(f'/proc/{pid}/smaps_rollup' for pid in pids)}").stdout.splitlines()
        yield f"PSS in KiB of each: {who}", sum(int(line.split()[1]) for line in pss) / len(pids)


def measure(lab, type, module):
    name = f"bench-{type}"
    lab.create(name, "--type", type)
    guest = Guest(lab, name, module)
    figures = dict([*commands(guest), *durable_changes(guest), *idle(lab)])
    lab.destroy(name)
    return figures


def main():
    figures = in_lab(measure)
    (BUILD / "lab.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(f"{'':36}" + "".join(f"{type:>10}" for type in figures))
    for figure in figures["pv"]:
        print(f"{figure:36}" + "".join(f"{of[figure]:10.2f}" for of in figures.values()))


if __name__ == "__main__":
    main()
