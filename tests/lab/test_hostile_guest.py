# SPDX-License-Identifier: Apache-2.0
"""A guest that writes what it likes into its page and its xenstore directory: at worst its own device closes."""

import contextlib
import pathlib

import pytest

HERE = pathlib.Path(__file__).parent
PROGRAMS = [HERE / name for name in ("hostile_frontend.py", "xen_wire.py")]
ROUNDS = 500


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
    lab.create("bystander")
    for program in PROGRAMS:
        lab.run("push", "--guest", "hostile", str(program), "/root/")
    lab.run("push", "--guest", "bystander", str(HERE / "latency.py"), "/root/")
    lab.run("push", "--guest", "hostile", str(lab.build_module("tests/lab/hostile")), "/root/")
    yield Hostile(lab)
    lab.destroy("hostile")
    lab.destroy("bystander")
    lab.dom0("xl sched-credit2 -d Domain-0 -w 256")


@pytest.fixture
def hostile(lab, guests):
    """Whatever it does, nobody else notices."""
    daemons = "systemctl show -p NRestarts -p MainPID xen-vtpmd xen-vtpm-managerd"
    before = lab.dom0(daemons).stdout
    yield guests
    assert lab.guest("bystander", "timeout 60 tpm2_getrandom --hex 4", check=False).returncode == 0
    assert lab.dom0(daemons).stdout == before


def test_a_frontend_without_a_driver_is_none(lab, hostile):
    assert lab.guest("hostile", "test -e /dev/tpm0", check=False).returncode == 1


def test_a_page_with_nonsense_gets_tpm_errors(hostile):
    hostile.run("page")


def test_a_flood_of_events_and_headers_is_survived(hostile):
    hostile.run("flood")


def test_states_at_random_end_in_a_device_that_connects_again(hostile):
    hostile.run("states")
    hostile.run("connect")


def test_a_rewritten_xenstore_directory_closes_its_own_device(lab, hostile):
    hostile.run("xenstore")
    lab.power_cycle_vtpm("hostile")
    hostile.run("connect")


def test_a_directory_that_goes_is_gone_for_its_guest_only(lab, hostile):
    hostile.run("vanish")
    lab.power_cycle_vtpm("hostile")
    hostile.run("connect")
    assert lab.device("hostile")["state"] == "connected"


@contextlib.contextmanager
def hostile_kernel(lab, attack):
    lab.guest("hostile", f"insmod /root/hostile.ko attack={attack}")
    yield
    lab.guest("hostile", "rmmod hostile", timeout=300)


def percentile(lab):
    """The 99th of the bystander's commands: the better of two runs, since the machine has other work too."""
    return min(int(lab.guest("bystander", f"timeout 200 python3 /root/latency.py {ROUNDS}").stdout.split()[1]) for _ in range(2))


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


def test_a_frontend_that_waits_is_served_when_the_backend_starts(lab, guests):
    lab.power_cycle_vtpm("hostile")
    lab.dom0("systemctl stop xen-vtpmd")
    with lab.start("guest", "exec", "hostile", "--", "python3", "/root/hostile_frontend.py", "connect") as waiting:
        lab.dom0("timeout 60 sh -c 'until xenstore-read /local/domain/$(xl domid hostile)/device/vtpm/0/ring-ref; "
                 "do sleep 0.2; done'")
        lab.dom0("systemctl start xen-vtpmd")
        assert waiting.wait(timeout=180) == 0
