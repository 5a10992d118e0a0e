# SPDX-License-Identifier: Apache-2.0
"""A hostile guest and one beside it: fixtures."""

import pathlib

import pytest

HERE = pathlib.Path(__file__).parent
PROGRAMS = [HERE / name for name in ("hostile_frontend.py", "xen_wire.py")]
BYSTANDER = "pv"


class Hostile:
    def __init__(self, lab):
        self.lab = lab

    def run(self, verb):
        return self.lab.guest("hostile", f"python3 /root/hostile_frontend.py {verb}", timeout=300)


@pytest.fixture(scope="module")
def guests(lab):
    """The hostile guest, and one beside it, on a host that is set up as README.md says."""
    lab.dom0("xl sched-credit2 -d Domain-0 -w 2048")
    lab.create("hostile", "--frontend", "none")
    for program in PROGRAMS:
        lab.run("push", "--guest", "hostile", str(program), "/root/")
    lab.run("push", "--guest", BYSTANDER, str(HERE / "latency.py"), "/root/")
    lab.run("push", "--guest", "hostile", str(lab.build_module("tests/lab/hostile")), "/root/")
    yield Hostile(lab)
    lab.destroy("hostile")
    lab.dom0("xl sched-credit2 -d Domain-0 -w 256")


@pytest.fixture
def hostile(lab, guests):
    """Whatever it does, nobody else notices."""
    daemons = "systemctl show -p NRestarts -p MainPID xen-vtpmd xen-vtpm-managerd"
    before = lab.dom0(daemons).stdout
    yield guests
    assert lab.guest(BYSTANDER, "timeout 60 tpm2_getrandom --hex 4", check=False).returncode == 0
    assert lab.dom0(daemons).stdout == before
