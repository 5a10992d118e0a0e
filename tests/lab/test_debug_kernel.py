# SPDX-License-Identifier: Apache-2.0
"""The driver under stress in kernels that watch memory, locks and contexts (tests/lab/kernel/debug.config), and data races (races.config)."""

import re
import time

import pytest

pytestmark = pytest.mark.long

UNBIND = "echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/unbind"
RELOAD = f"{UNBIND}; rmmod xen_tpmfront; modprobe xen-tpmfront"
# Whatever comes of it: the device is pulled away under them.
HAMMER = """
import time
while True:
    try:
        with open("/dev/tpmrm0", "r+b", buffering=0) as tpm:
            while True:
                tpm.write(bytes.fromhex("80010000000c0000017b0010"))
                tpm.read(4096)
    except OSError:
        time.sleep(0.01)
"""
READER = "while sleep 0.01; do cat /sys/kernel/debug/xen-tpmfront/*; done"
COMPLAINTS = re.compile(r"BUG:|WARNING:|INFO: (?:task|possible|trying)|unreferenced object|Oops|leaked", re.I)


def stress(lab, guest):
    """The driver comes and goes under four processes that use the TPM and one that looks into debugfs, and is saved and restored; the
    vTPM goes, and its backend dies."""
    lab.guest(guest, f"echo '{HAMMER}' > /run/hammer.py; for i in 1 2 3 4; do setsid python3 /run/hammer.py "
                     "< /dev/null > /run/hammer.$i 2>&1 & done; "
                     f"setsid sh -c '{READER}' < /dev/null > /dev/null 2>&1 & sleep 5")
    lab.guest(guest, f"for i in 1 2 3 4 5; do {RELOAD}; sleep 1; done", timeout=600)
    lab.dom0(f"xl save {guest} /var/lib/saved && xl restore /var/lib/saved; rm -f /var/lib/saved", timeout=600)
    lab.run("dom0", "--", "lab-guest", "running", guest)
    for _ in range(2):
        lab.power_cycle_vtpm(guest)
        time.sleep(5)
    # Killed in the middle of commands; the vTPM is failed from then on, until its power comes back. Meanwhile somebody says without
    # end that the backend leaves, while commands look whether it has.
    lab.dom0("systemctl kill -s KILL xen-vtpmd 'xen-vtpm-engines-*.scope'; sleep 2; "
             f"state=/local/domain/0/backend/vtpm/$(xl domid {guest})/0/state; "
             "for i in $(seq 10); do xenstore-write $(for j in $(seq 50); do echo $state 5 $state 6; done); sleep 1; done; "
             "systemctl reset-failed xen-vtpmd; systemctl start xen-vtpmd", timeout=600)
    time.sleep(5)
    lab.power_cycle_vtpm(guest)
    # All four, all the time: whoever ends with the TPM has tested nothing since.
    assert len(lab.guest(guest, "pgrep -f '[h]ammer.py'; cat /run/hammer.?").stdout.split()) == 4
    lab.guest(guest, "pkill -f '[h]ammer.py|[w]hile sleep'")
    lab.await_tpm(guest, limit=300)  # each of the thousand words is looked at before that of the new device
    lab.guest(guest, f"tpm2_getrandom --hex 4; {UNBIND}; rmmod xen_tpmfront", timeout=600)


@pytest.fixture
def watched(lab, request):
    """PVH: Linux 6.1 has no KASAN in PV guests."""
    name = f"watched-{request.param}"
    lab.create(name, "--type", "pvh", "--kernel", request.param)
    lab.guest(name, "mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug")
    yield name
    lab.destroy(name)


@pytest.mark.parametrize("watched", ["debug"], indirect=True)
def test_stress_leaves_a_clean_log(lab, watched):
    lab.guest(watched, "echo clear > /sys/kernel/debug/kmemleak")
    stress(lab, watched)
    # An object counts as leaked when two scans have not found it, and five seconds old.
    lab.guest(watched, "sleep 6; echo scan > /sys/kernel/debug/kmemleak; echo scan > /sys/kernel/debug/kmemleak", timeout=600)
    leaks = lab.guest(watched, "cat /sys/kernel/debug/kmemleak").stdout
    assert leaks == ""
    log = lab.guest(watched, "dmesg").stdout
    assert [line for line in log.splitlines() if COMPLAINTS.search(line)] == []


@pytest.mark.parametrize("watched", ["races"], indirect=True)
def test_stress_finds_no_data_race(lab, watched):
    """Linux has many of its own, by these rules: those of which one side is the driver count."""
    # One access of ten is watched, not of 4000, and for a millisecond: an answer comes in half of that, and so while one of the
    # two processors stands still between the look at the page and the sleep, the other has the interrupt.
    lab.guest(watched, "cd /sys/module/kcsan/parameters; echo 10 > skip_watch; echo 1000 > udelay_task; echo 500 > udelay_interrupt; "
                       "echo on > /sys/kernel/debug/kcsan; dmesg --clear")
    stress(lab, watched)
    counts = dict(line.split(": ") for line in lab.guest(watched, "cat /sys/kernel/debug/kcsan").stdout.splitlines() if ": " in line)
    assert int(counts["setup_watchpoints"]) > 20000, counts
    log = lab.guest(watched, "dmesg").stdout
    reports = re.findall(r".*BUG: KCSAN: (?:.*\n){1,60}?.*={20,}", log)
    assert [report for report in reports if "xen_tpmfront" in report.splitlines()[0]] == []
