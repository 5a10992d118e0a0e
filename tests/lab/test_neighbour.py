# SPDX-License-Identifier: Apache-2.0
"""What a hostile kernel costs the guest beside it. Times are compared: nothing else may run on the machine."""

import contextlib

import pytest

from hostile_pair import BYSTANDER, guests, hostile  # noqa: F401

ROUNDS = 500


@contextlib.contextmanager
def hostile_kernel(lab, attack):
    lab.guest("hostile", f"insmod /root/hostile.ko attack={attack}")
    yield
    lab.guest("hostile", "rmmod hostile", timeout=300)


def percentile(lab):
    """The 99th of the bystander's commands: the better of two runs, since the machine has other work too."""
    return min(int(lab.guest(BYSTANDER, f"timeout 200 python3 /root/latency.py {ROUNDS}").stdout.split()[1]) for _ in range(2))


@pytest.fixture(scope="module")
def beside_a_busy_guest(lab, guests):
    """What a guest costs its neighbour that only uses its processor, as it may."""
    with hostile_kernel(lab, "none"):
        return percentile(lab)


@pytest.mark.parametrize("attack", ["page", "events", "commands", "store", "all"])
def test_a_hostile_kernel_costs_its_neighbour_little(lab, hostile, beside_a_busy_guest, attack):
    lines = "journalctl -b --no-pager -u xen-vtpmd -u xen-vtpm-managerd | wc -l"
    before, engines = int(lab.dom0(lines).stdout), lab.dom0("pgrep -c xen-vtpm-engine").stdout
    lab.power_cycle_vtpm("hostile")
    with hostile_kernel(lab, attack):
        attacked = percentile(lab)
    print(f"{attack}: p99 {attacked} us, beside a busy guest {beside_a_busy_guest} us")
    print(lab.guest("hostile", "dmesg | grep hostile: | tail -1").stdout)
    # Seen: 0.3 to 1.3, and up to 2.2 for commands (docs/performance.md). The emulated machine's own percentiles vary by two.
    assert attacked <= 5 * beside_a_busy_guest
    assert int(lab.dom0(lines).stdout) - before < 50
    # Nothing is left of it: its device goes, and comes again.
    lab.power_cycle_vtpm("hostile")
    hostile.run("connect")
    assert lab.dom0("pgrep -c xen-vtpm-engine").stdout == engines
