# SPDX-License-Identifier: Apache-2.0
"""What the frontend does when its backend dies, leaves and comes back, and when its guest is suspended."""

import contextlib
import os
import pathlib
import time
import uuid

import pytest

from lab import EVENT_LOG, check_log

HERE = pathlib.Path(__file__).parent
HOLDER = HERE / "holder.py"
KILLS = int(os.environ.get("XEN_VTPM_LAB_WRITERS", "12"))
ROUNDS = int(os.environ.get("XEN_VTPM_LAB_RELOADS", "20"))
# A system call that waits, where tpm2-tss leaves the waiting to a thread of the kernel that no signal reaches.
SEND = "python3 -c \"import os; f = os.open('/dev/tpm0', os.O_RDWR); os.write(f, bytes.fromhex('{}')); os.read(f, 99)\""
GET_RANDOM = SEND.format("80010000000c0000017b0010")
HASH_SEQUENCE_START = SEND.format("80010000000e000001860000000b")


class Driven:
    """A guest with the driver. A TPM that is attached while it runs becomes tpm0, as the former was, or tpm1 where somebody keeps
    the former's chip."""

    def __init__(self, lab, name, attached=0):
        self.lab, self.name, self.attached = lab, name, attached

    def sh(self, script, **options):
        return self.lab.guest(self.name, script, **options)

    def counters(self):
        return self.lab.driver_counters(self.name)

    @contextlib.contextmanager
    def holder(self):
        """A process that keeps /dev/tpm0 open, so that nobody else can open it, and uses it."""
        self.lab.run("push", "--guest", self.name, str(HOLDER), "/root/holder.py")
        self.sh("rm -f /root/holder.log; setsid python3 /root/holder.py < /dev/null > /dev/null 2>&1 & "
                "echo $! > /root/holder.pid; timeout 30 sh -c 'until test -s /root/holder.log; do sleep 0.5; done'")
        try:
            self.wait_for_held("ok")
            yield
        finally:
            self.sh("kill $(cat /root/holder.pid)")

    def held(self):
        return self.sh("cat /root/holder.log").stdout.split()

    def wait_for_held(self, outcome, limit=60):
        deadline = time.monotonic() + limit
        while self.held()[-1:] != [outcome]:
            assert time.monotonic() < deadline, f"{outcome} after {self.held()[-5:]}"
            time.sleep(0.5)

    def begin_key(self):
        """A command that takes long, which somebody waits for; what becomes of it: /root/create.log. killed_writers.py is there."""
        self.sh("setsid python3 -c \"exec(open('/root/killed_writers.py').read().split('failures = []')[0]); create()\" "
                "< /dev/null > /root/create.log 2>&1 & sleep 2")

    @contextlib.contextmanager
    def hanging_engine(self):
        """Nobody answers meanwhile. Yields when it began. Where IMA measures, each program that it has not seen waits for the TPM
        before it starts: what the tests run meanwhile has run before."""
        self.sh(f"setsid sleep 0; timeout 100 {GET_RANDOM}")
        with self.stopped_engine():
            yield time.monotonic()

    @contextlib.contextmanager
    def slow_engine(self):
        """It has a sixth of the time: a key takes seconds, and still less than a command may take while a suspend waits."""
        engine = self.lab.device(self.name)["engine_pid"]
        slowing = self.lab.start("dom0", "--", "sh", "-c", "touch /run/slow; while test -e /run/slow; do "
                                 f"kill -STOP {engine}; sleep 1.2; kill -CONT {engine}; sleep 0.25; done")
        try:
            yield
        finally:
            self.lab.dom0("rm -f /run/slow")
            slowing.wait()

    @contextlib.contextmanager
    def stopped_engine(self):
        engine = self.lab.device(self.name)["engine_pid"]
        self.lab.dom0(f"kill -STOP {engine}")
        try:
            yield
        finally:
            self.lab.dom0(f"kill -CONT {engine}")


@pytest.fixture(scope="module")
def driven(lab, guest):
    return Driven(lab, guest)


def test_debugfs_tells_state_and_counters(driven):
    before = driven.counters()
    driven.sh("tpm2_getrandom --hex 4")
    after = driven.counters()
    assert (after["state"], after["backend"], after["ring"], after["rings"]) == ("Connected", "Connected", "open", "1")
    assert int(after["commands"]) > int(before["commands"])
    assert int(after["interrupts"]) > int(before["interrupts"])
    assert after["malformed"] == "0"


def test_the_hardware_random_generator_delivers(driven):
    assert "tpm-rng-0" in driven.sh("cat /sys/class/misc/hw_random/rng_available").stdout
    assert driven.sh("echo tpm-rng-0 > /sys/class/misc/hw_random/rng_current; "
                     "timeout 60 head -c 32 /dev/hwrng | wc -c").stdout.strip() == "32"


# 24 threads that have the TPM make keys, all the time: as many processes are more than a PV guest's memory holds.
QUEUE = """
exec(open("/root/killed_writers.py").read().split("failures = []")[0])
def make_keys():
    while not os.path.exists("/run/enough"):
        try:
            with open("/dev/tpmrm0", "r+b", buffering=0) as tpm:
                exchange(tpm.fileno(), CREATE)
        except OSError:
            time.sleep(2)
for _ in range(24):
    threading.Thread(target=make_keys).start()
"""
# The transient objects and sessions of the TPM, past the resource manager.
LEFT = "TPM2TOOLS_TCTI=device:/dev/tpm0 tpm2_getcap handles-transient; TPM2TOOLS_TCTI=device:/dev/tpm0 tpm2_getcap handles-loaded-session"


def test_an_engine_that_hangs_costs_a_bounded_time(driven):
    with driven.hanging_engine() as began:
        result = driven.sh("timeout 100 " + GET_RANDOM, check=False)
        # Linux reads its own random numbers from the TPM now and then: ours may wait for that command too.
        assert time.monotonic() - began < 60
    driven.sh("tpm2_getrandom --hex 4")
    assert result.returncode == 1
    assert "Timer expired" in result.stderr, result.stderr  # ETIME


def test_the_answer_of_a_command_that_was_given_up_leaves_nothing(driven):
    """Its caller has heard of an error: nobody knows the handle of the object that it makes all the same."""
    before = driven.counters()
    with driven.hanging_engine():
        result = driven.sh("timeout 100 " + HASH_SEQUENCE_START, check=False)
        assert "Timer expired" in result.stderr, result.stderr
    assert driven.sh(LEFT).stdout == ""
    after = driven.counters()
    assert int(after["late"]) > int(before["late"]) and after["orphans"] == "0"


def test_an_answer_counts_also_while_xenstore_hangs(driven):
    """The driver looks there for a backend that has left, when a command takes longer than a second; it once waited for that."""
    driven.sh("rm -f /run/asked")
    xenstored = driven.lab.dom0("pgrep -x 'oxenstored|xenstored'").stdout.strip()
    try:
        with driven.hanging_engine():
            driven.sh(f"({GET_RANDOM}; echo $? > /run/asked) < /dev/null > /dev/null 2>&1 & sleep 0.5")
            driven.lab.dom0(f"kill -STOP {xenstored}; sleep 2")
        asked = driven.sh("timeout 20 sh -c 'until test -s /run/asked; do sleep 0.2; done'; cat /run/asked", check=False).stdout
    finally:
        driven.lab.dom0(f"kill -CONT {xenstored}")
    driven.sh("tpm2_getrandom --hex 4")
    assert asked == "0\n"


def test_killed_writers_leave_nothing_and_fail_nobody(driven):
    """Three of them once cost the guest its TPM until it was booted again."""
    driven.lab.run("push", "--guest", driven.name, str(HERE / "killed_writers.py"), "/root/")
    assert float(driven.sh(f"python3 /root/killed_writers.py {KILLS}", timeout=900).stdout) < 10
    assert driven.sh(LEFT).stdout == ""
    assert driven.counters()["orphans"] == "0"


def test_a_command_that_takes_long_does_not_keep_the_guest_from_being_saved(driven):
    """The freezer gives up after 20 seconds; TPM2_CreatePrimary may take 300. One client leaves the waiting to a thread of the
    kernel, and the other waits for that one."""
    driven.lab.run("push", "--guest", driven.name, str(HERE / "killed_writers.py"), "/root/")
    with driven.hanging_engine():
        create = "import os, select; exec(open('/root/killed_writers.py').read().split('def exchange')[0]); " \
                 "f = os.open('/dev/tpmrm0', os.O_RDWR | {}); os.write(f, CREATE); select.select([f], [], []); print(len(os.read(f, 4096)))"
        for flag, log in (("os.O_NONBLOCK", "polled"), ("0", "create")):
            driven.sh(f"setsid python3 -c \"{create.format(flag)}\" < /dev/null > /root/{log}.log 2>&1 & sleep 2")
        driven.lab.dom0(f"sh -c 'xl save -c {driven.name} /var/lib/saved > /root/save.log 2>&1; echo $? >> /root/save.log' & sleep 1; "
                        f"timeout 100 sh -c 'until xenstore-read /local/domain/$(xl domid {driven.name})/control/shutdown | grep -q ^$; "
                        # Nothing tells dom0 when the guest's freezer looks; the driver gives a command of five seconds up for it.
                        "do sleep 0.5; done; sleep 8'", timeout=200)
    driven.lab.dom0("timeout 200 sh -c 'until tail -n 1 /root/save.log | grep -qx 0; do sleep 0.5; done'; rm -f /var/lib/saved", timeout=300)
    log = driven.sh("timeout 60 sh -c 'until grep -Eq \"Timer expired|^[0-9]\" /root/create.log; do sleep 0.5; done'; cat /root/create.log").stdout
    assert "Timer expired" in log, log
    driven.sh("tpm2_getrandom --hex 4")
    assert driven.sh(LEFT).stdout == ""
    assert "refusing to freeze" not in driven.sh("dmesg").stdout


@pytest.mark.long
def test_a_queue_of_commands_does_not_keep_the_guest_from_being_saved(driven):
    """None of them takes long, but all together longer than the freezer waits."""
    driven.lab.run("push", "--guest", driven.name, str(HERE / "killed_writers.py"), "/root/")
    driven.sh(f"rm -f /run/enough; echo '{QUEUE}' > /root/queue.py")
    with driven.slow_engine():
        driven.sh("setsid python3 /root/queue.py < /dev/null > /root/queue.log 2>&1 & sleep 12")
        saved = driven.lab.dom0(f"xl save -c {driven.name} /var/lib/saved; result=$?; rm -f /var/lib/saved; exit $result",
                                check=False, timeout=200)
    driven.lab.run("dom0", "--", "lab-guest", "running", driven.name)
    driven.sh("touch /run/enough; timeout 100 sh -c 'while pgrep -f [q]ueue.py; do sleep 0.5; done' > /dev/null", timeout=200)
    assert saved.returncode == 0, saved.stderr
    assert driven.sh("cat /root/queue.log").stdout == ""
    driven.sh("tpm2_getrandom --hex 4")
    assert driven.sh(LEFT).stdout == ""


@pytest.mark.long
def test_a_save_does_not_wait_for_ever(driven):
    """The answer of the command is lost with its page, and the object that it may have made is nobody's. The TPM works on."""
    driven.lab.run("push", "--guest", driven.name, str(HERE / "killed_writers.py"), "/root/")
    with driven.hanging_engine():
        driven.begin_key()
        driven.lab.dom0(f"sh -c 'xl save {driven.name} /var/lib/saved > /root/save.log 2>&1; echo $? >> /root/save.log' & "
                        f"timeout 100 sh -c 'until xl list {driven.name} | grep -q ss-; do sleep 0.5; done'", timeout=200)
    driven.lab.dom0("timeout 200 sh -c 'until tail -n 1 /root/save.log | grep -qx 0; do sleep 0.5; done'; "
                    "xl restore /var/lib/saved; rm -f /var/lib/saved", timeout=600)
    driven.lab.run("dom0", "--", "lab-guest", "running", driven.name)
    driven.sh("tpm2_getrandom --hex 4; export TPM2TOOLS_TCTI=device:/dev/tpm0; tpm2_flushcontext -t")
    assert "Timer expired" in driven.sh("cat /root/create.log").stdout
    assert driven.sh(LEFT).stdout == ""
    assert driven.counters()["orphans"] == "0"


def test_save_and_restore_keep_the_chip(driven):
    rings = int(driven.counters()["rings"])
    with driven.holder():
        driven.lab.dom0(f"xl save {driven.name} /var/lib/saved && xl restore /var/lib/saved; rm -f /var/lib/saved", timeout=400)
        driven.lab.run("dom0", "--", "lab-guest", "running", driven.name)
        driven.wait_for_held("ok")
        assert driven.sh("ls /sys/class/tpm").stdout.split() == ["tpm0"]
        assert int(driven.counters()["rings"]) == rings + 1
        # ETIME: where the machine is so busy that the new backend needs longer than a command may take.
        assert set(driven.held()) <= {"ok", "EIO", "ETIME"}


def test_a_cancelled_suspend_changes_nothing(driven):
    with driven.holder():
        driven.lab.dom0(f"xl save -c {driven.name} /var/lib/saved; rm -f /var/lib/saved", timeout=400)
        time.sleep(2)
        driven.wait_for_held("ok")


def test_a_backend_that_closes_and_offers_again_gets_a_new_ring(driven):
    """Played by hand: what a backend may do that keeps its vTPM's power over a restart."""
    path = f"/local/domain/0/backend/vtpm/$(xl domid {driven.name})/0"
    with driven.holder():
        rings = int(driven.counters()["rings"])
        driven.lab.dom0(f"systemctl stop xen-vtpmd; xenstore-write {path}/state 5")
        driven.wait_for_held("EIO")
        driven.lab.dom0(f"xenstore-write {path}/state 6; sleep 1; xenstore-rm {path}/powered-on; xenstore-rm {path}/restored; "
                        f"xenstore-write {path}/state 2; systemctl start xen-vtpmd")
        driven.wait_for_held("ok")
        assert int(driven.counters()["rings"]) == rings + 1
        assert driven.sh("ls /sys/class/tpm").stdout.split() == ["tpm0"]


def test_the_module_comes_and_goes_many_times(driven):
    driven.sh(f"set -e; for i in $(seq {ROUNDS}); do echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/unbind; "
              "rmmod xen_tpmfront; modprobe xen-tpmfront; done; udevadm settle; tpm2_getrandom --hex 4", timeout=900)


def test_the_event_log_comes_back_also_when_somebody_has_it_open(driven):
    """Its name once stayed in securityfs, and then there was no log until the guest was booted again."""
    driven.sh(f"set -e; sha256sum < {EVENT_LOG} > /run/before; setsid sleep 600 < {EVENT_LOG} > /dev/null 2>&1 & echo $! > /run/holder; sleep 1; "
              f"echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/unbind; ! test -e {EVENT_LOG}")
    driven.sh("echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/bind")
    driven.lab.await_tpm(driven.name)
    driven.sh(f"set -e; test -d /proc/$(cat /run/holder); sha256sum < {EVENT_LOG} | cmp - /run/before; kill $(cat /run/holder)")


@pytest.mark.long
def test_unbinding_does_not_wait_for_a_command_that_takes_long(driven):
    """TPM2_CreatePrimary may take 300 seconds, and the TPM core waits for what is under way."""
    driven.lab.run("push", "--guest", driven.name, str(HERE / "killed_writers.py"), "/root/")
    with driven.hanging_engine():
        driven.begin_key()
        began = time.monotonic()
        driven.sh("echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/unbind", timeout=400)
        assert time.monotonic() - began < 30
    assert "Timer expired" in driven.sh("cat /root/create.log").stdout
    driven.sh("echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/bind; udevadm settle; tpm2_getrandom --hex 4")


def test_a_vtpm_is_detached_and_attached_while_the_guest_runs(driven):
    driven.sh("tpm2_pcrextend 16:sha256=$(printf %064d 1)")
    driven.lab.power_cycle_vtpm(driven.name)
    driven.lab.await_tpm(driven.name, f"tpmrm{driven.attached}")
    assert driven.sh(f"cat /sys/class/tpm/tpm{driven.attached}/pcr-sha256/16").stdout.strip("0\n") == ""


def test_a_tpm_that_answers_late_comes_late_and_nobody_waits_for_it(driven):
    """The guest can be saved while the driver is being bound to it."""
    node, warning = f"/dev/tpmrm{driven.attached}", "no answer from the TPM yet"
    with driven.stopped_engine():
        driven.sh("cd /sys/bus/xen/drivers/xen-tpmfront; (echo vtpm-0 > unbind; echo vtpm-0 > bind) < /dev/null > /dev/null 2>&1 & "
                  f"timeout 60 sh -c 'while test -e {node}; do sleep 0.5; done'; sleep 7")
        driven.lab.dom0(f"xl save -c {driven.name} /var/lib/saved; result=$?; rm -f /var/lib/saved; exit $result", timeout=400)
        driven.sh(f"timeout 120 sh -c 'until dmesg | grep -q \"{warning}\"; do sleep 0.5; done'; ! test -e {node}")
    driven.lab.await_tpm(driven.name, f"tpmrm{driven.attached}")
    driven.sh(f"TPM2TOOLS_TCTI=device:{node} tpm2_getrandom --hex 4")


def test_a_guest_has_two_vtpms(driven):
    second, one, other = str(uuid.uuid4()), driven.attached, driven.attached + 1
    driven.lab.dom0(f"xl vtpm-attach {driven.name} uuid={second} backend=0")
    driven.lab.await_tpm(driven.name, f"tpmrm{other}")
    use_one = f"TPM2TOOLS_TCTI=device:/dev/tpmrm{one} tpm2_getrandom --hex 4"
    driven.sh(f"set -e; TPM2TOOLS_TCTI=device:/dev/tpmrm{other} tpm2_pcrextend 16:sha256=$(printf %064d 1); {use_one}; "
              f"! cmp /sys/class/tpm/tpm{one}/pcr-sha256/16 /sys/class/tpm/tpm{other}/pcr-sha256/16")
    driven.lab.dom0(f"xl vtpm-detach {driven.name} {second}; xen-vtpm delete --yes {second}")
    driven.sh(f"set -e; timeout 60 sh -c 'while test -e /dev/tpm{other}; do sleep 0.5; done'; {use_one}")


def test_rmmod_does_not_hang_when_the_backend_is_dead(driven):
    """Its vTPM has lost its power afterwards."""
    driven.lab.dom0("systemctl stop xen-vtpmd")
    began = time.monotonic()
    try:
        driven.sh("set -e; echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/unbind; timeout 30 rmmod xen_tpmfront")
        assert time.monotonic() - began < 40
    finally:
        driven.lab.dom0("systemctl start xen-vtpmd")
    check_log(driven.sh("dmesg").stdout)


def test_power_off_does_not_hang_when_the_backend_is_dead(driven):
    driven.lab.power_cycle_vtpm(driven.name)
    driven.sh("modprobe xen-tpmfront")
    driven.lab.await_tpm(driven.name, f"tpmrm{driven.attached}")
    driven.lab.dom0("systemctl stop xen-vtpmd")
    began = time.monotonic()
    try:
        driven.lab.run("guest", "shutdown", driven.name)
        assert time.monotonic() - began < 60
    finally:
        driven.lab.dom0("systemctl start xen-vtpmd")
