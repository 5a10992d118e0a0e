# SPDX-License-Identifier: Apache-2.0
"""A backend that answers what it likes: the guest's kernel gets an error, or a response that is whole."""

import contextlib
import hashlib
import pathlib
import re

import pytest

from hostile_backend import GET_RANDOM_16, HASH_SEQUENCE_START, LOG_PARTS, LOGS
from lab import check_log

FLUSH_CONTEXT = "0x165 "
GOOD_LOGS = ("whole", "one_event")
HERE = pathlib.Path(__file__).parent
EXCHANGE = """
import errno, os
tpm = os.open("/dev/{}", os.O_RDWR)
try:
    os.write(tpm, bytes.fromhex("{}"))
    answer = os.read(tpm, 4096)
    print("ok" if len(answer) in (14, 28) and answer[6:10] == bytes(4) else answer.hex())
except OSError as error:
    print(errno.errorcode[error.errno])
"""


class Victim:
    """A guest, and the chip that it has of the hostile backend: tpm0, or tpm1 where IMA keeps the one that it found at boot."""

    def __init__(self, lab, name):
        self.lab, self.name, self.chip = lab, name, None

    def sh(self, script, **options):
        return self.lab.guest(self.name, script, **options)

    def become(self, mode):
        self.lab.dom0(f"echo '{mode}' > /run/hostile-backend.new; mv /run/hostile-backend.new /run/hostile-backend")

    def exchange(self, command=GET_RANDOM_16):
        return self.sh(f"timeout 60 python3 -c '{EXCHANGE.format(self.chip, command.hex())}'").stdout.strip()

    def exchange_with(self, mode):
        """What a command ends with, and that the next one works."""
        self.become(mode)
        outcome = self.exchange()
        self.become("honest")
        assert self.exchange() == "ok"
        return outcome

    def chips(self):
        return self.sh("ls /sys/class/tpm").stdout.split()

    def counters(self):
        return self.lab.driver_counters(self.name)

    def log(self):
        return self.lab.dom0("cat /run/hostile-backend.log").stdout

    @contextlib.contextmanager
    def unbound(self):
        self.sh("echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/unbind")
        yield
        self.sh("echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/bind; udevadm settle")


@pytest.fixture(scope="module", params=[pytest.param("pv", marks=pytest.mark.long), "pvh"])
def attacked(request, lab):
    lab.renew()
    return request.param


@pytest.fixture(scope="module")
def victim(lab, attacked):
    victim = Victim(lab, attacked)
    for program in ("hostile_backend.py", "xen_wire.py"):
        lab.run("push", str(HERE / program), "/root/")
    victim.become("honest")
    with victim.unbound():
        lab.dom0("systemctl stop xen-vtpmd; domid=$(xl domid %s); "
                 "xenstore-write /local/domain/0/backend/vtpm/$domid/0/state 2; "
                 "systemd-run --quiet --unit=hostile-backend python3 /root/hostile_backend.py $domid" % victim.name)
    [victim.chip] = victim.chips()
    # The kernel's own user of the TPM, as it may come at any time; here all the time.
    victim.sh("(while head -c 64 /dev/hwrng || sleep 1; do sleep 0.3; done) > /dev/null 2>&1 &")
    yield victim
    lab.dom0("systemctl stop hostile-backend; systemctl start xen-vtpmd")


@pytest.mark.parametrize("mode", ["short", "long", "huge", "too_little", "too_much", "extra_pages"])
def test_a_malformed_response_is_an_error(victim, mode):
    before = int(victim.counters()["malformed"])
    assert victim.exchange_with(mode) == "EPROTO"
    assert int(victim.counters()["malformed"]) == before + 1


def test_a_length_that_changes_under_our_eyes_is_read_once(victim):
    assert victim.exchange_with("changing") in ("ok", "EPROTO")


def test_nothing_is_read_before_the_response_is_finished(victim):
    assert victim.exchange_with("scribbling") == "ok"


def test_states_that_are_not_the_backends_to_write_mean_nothing(victim):
    assert victim.exchange_with("foreign_state") == "ok"


def test_a_command_that_ends_without_a_response_is_an_error(victim):
    assert victim.exchange_with("no_answer") == "ECANCELED"


def test_a_request_finds_nothing_of_the_one_before_it_in_the_page(victim):
    assert victim.exchange() == "ok"
    assert victim.exchange() == "ok"
    residues = set(re.findall(r"residue (\d+)", victim.log()))
    assert residues == {"0"}, victim.log()


@pytest.mark.parametrize("mode", ["honest", "huge", *(pytest.param(mode, marks=pytest.mark.long) for mode in (
    "short", "long", "too_little", "too_much", "extra_pages", "no_handle"))])
def test_a_late_answer_is_judged_as_any_other(victim, mode):
    """A whole one tells of an object that is nobody's, which is flushed; another one tells nothing."""
    flushed = victim.log().count(FLUSH_CONTEXT)
    victim.become(f"late {mode}")
    assert victim.exchange(HASH_SEQUENCE_START) == "ETIME"
    victim.become("honest")
    assert victim.exchange() == "ok"
    assert victim.log().count(FLUSH_CONTEXT) == flushed + (mode == "honest")
    assert victim.counters()["orphans"] == "0"


def shown_log(victim, name):
    """The digest of what the kernel shows, read to its end, when the TPM has that event log; or nothing."""
    victim.become(f"log {name}")
    with victim.unbound():
        pass
    assert victim.exchange() == "ok"
    return victim.sh(f"log=/sys/kernel/security/{victim.chip}/binary_bios_measurements; ! test -e $log || sha256sum < $log").stdout[:64]


@pytest.mark.parametrize("name", GOOD_LOGS)
def test_a_log_that_is_one_is_shown_to_its_last_event(victim, name):
    assert shown_log(victim, name) == hashlib.sha256(LOGS[name]).hexdigest()


@pytest.mark.parametrize("name", [*LOG_PARTS, *(name for name in LOGS if name not in GOOD_LOGS)])
def test_a_log_that_is_none_is_not_shown(victim, name):
    """Linux itself reads beyond the end of one whose lengths are wrong."""
    assert shown_log(victim, name) == ""


def test_a_storm_of_events_is_throttled(victim):
    """Xen's late EOI: a channel whose events mean nothing stays masked for longer and longer."""
    before = int(victim.counters()["spurious"])
    victim.become("storm")
    assert victim.exchange() == "ok"
    victim.become("honest")
    assert victim.exchange() == "ok"
    sent = int(re.findall(r"storm (\d+)", victim.log())[-1])
    handled = int(victim.counters()["spurious"]) - before
    assert handled < sent / 10, f"{sent} sent, {handled} handled"


def test_a_backend_that_leaves_in_the_middle_ends_the_command_only(victim):
    rings = int(victim.counters()["rings"])
    victim.become("leave")
    assert victim.exchange() == "EIO"
    victim.sh(f"export TPM2TOOLS_TCTI=device:/dev/{victim.chip}; "
              "timeout 60 sh -c 'until tpm2_getrandom 4; do sleep 0.5; done' > /dev/null 2>&1")
    assert int(victim.counters()["rings"]) == rings + 1
    assert victim.chips() == [victim.chip]


def test_a_probe_that_fails_leaves_nothing_behind(victim):
    for _ in range(3):
        with victim.unbound():
            victim.become("all short")
        assert victim.chips() == []
    with victim.unbound():
        victim.become("honest")
    assert victim.exchange() == "ok"


def test_a_backend_that_has_not_seen_the_end_is_waited_for(victim):
    """It looks at xenstore now and then: the driver is bound again before it has let the former ring go."""
    for _ in range(5):
        victim.sh("cd /sys/bus/xen/drivers/xen-tpmfront; echo vtpm-0 > unbind; echo vtpm-0 > bind; udevadm settle")
        assert victim.exchange() == "ok"


def test_the_kernel_has_not_complained(victim):
    check_log(victim.sh("dmesg").stdout)
