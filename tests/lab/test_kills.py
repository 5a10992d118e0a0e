# SPDX-License-Identifier: Apache-2.0
"""kill -9 of manager, daemon and engine while a guest writes to its NV, on the real thing. (Many more such kills, on
loopback rings, are in tests/integration/crash.)"""

import os
import pathlib
import random
import time

KILLS = int(os.environ.get("XEN_VTPM_LAB_KILLS", "9"))
PROGRAM = pathlib.Path(__file__).with_name("nv_writer.py")
WRITER = "pv"
KILL = {
    "manager": "systemctl kill -s KILL xen-vtpm-managerd",
    "daemon": "systemctl kill -s KILL --kill-who=main xen-vtpmd",
    "engine": "kill -9 $(xen-vtpm --json status | sed -n 's/.*\"engine_pid\": *\\([1-9][0-9]*\\).*/\\1/p')",
}
UP = "systemctl --quiet is-active xen-vtpmd && systemctl --quiet is-active xen-vtpm-managerd"
AGAIN = f"timeout 60 sh -c 'until {UP}; do sleep 0.2; done'"


def test_no_acknowledged_write_is_lost_and_none_is_there_by_half(lab):
    seed = random.randrange(2**32)
    print("seed", seed)
    generator = random.Random(seed)
    lab.run("push", "--guest", WRITER, str(PROGRAM), "/root/nv_writer.py")
    lab.guest(WRITER, "tpm2_nvdefine -Q 0x1500030 -C o -s 512 -a 'ownerread|ownerwrite|authread|authwrite|no_da'")
    lab.guest(WRITER, "python3 /root/nv_writer.py write 1")  # what was never written cannot be read
    for kill in range(KILLS):
        victim = list(KILL)[kill % len(KILL)]
        with lab.start("guest", "exec", WRITER, "--", "python3", "/root/nv_writer.py", "write", "4") as writer:
            time.sleep(generator.uniform(1, 3.5))
            lab.dom0(KILL[victim])
            assert writer.wait(timeout=120) == 0
        lab.dom0(AGAIN)
        lab.power_cycle_vtpm(WRITER)
        lab.await_tpm(WRITER)
        checked = lab.guest(WRITER, "python3 /root/nv_writer.py check")
        print(kill, victim, checked.stdout.strip())
    assert int(lab.guest(WRITER, "grep -c acknowledged /root/nv.log").stdout) > 2 * KILLS
