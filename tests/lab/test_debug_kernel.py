# SPDX-License-Identifier: Apache-2.0
"""The driver under stress in a kernel that watches memory, locks and contexts (tests/lab/kernel/debug.config)."""

import re
import time

import pytest

pytestmark = pytest.mark.long

UNBIND = "echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/unbind"
RELOAD = f"{UNBIND}; rmmod xen_tpmfront; modprobe xen-tpmfront"
# Whatever comes of it: the device is pulled away under them.
HAMMER = """
import os
while True:
    try:
        tpm = os.open("/dev/tpmrm0", os.O_RDWR)
        while True:
            os.write(tpm, bytes.fromhex("80010000000c0000017b0010"))
            os.read(tpm, 4096)
    except OSError:
        pass
    os.close(tpm) if "tpm" in locals() else None
"""
COMPLAINTS = re.compile(r"BUG:|WARNING:|INFO: (?:task|possible|trying)|unreferenced object|Oops|leaked", re.I)


@pytest.fixture(scope="module")
def watched(lab):
    """PVH: Linux 6.1 has no KASAN in PV guests."""
    lab.create("watched", "--type", "pvh", "--kernel", "debug")
    yield "watched"
    lab.destroy("watched")


def test_stress_leaves_a_clean_log(lab, watched):
    lab.guest(watched, "set -e; mount -t debugfs none /sys/kernel/debug; echo clear > /sys/kernel/debug/kmemleak; "
                       f"echo '{HAMMER}' > /run/hammer.py; for i in 1 2 3 4; do setsid python3 /run/hammer.py "
                       "< /dev/null > /dev/null 2>&1 & done; sleep 5")
    lab.guest(watched, f"for i in 1 2 3 4 5; do {RELOAD}; sleep 1; done", timeout=600)
    lab.dom0(f"xl save {watched} /var/lib/saved && xl restore /var/lib/saved; rm -f /var/lib/saved", timeout=600)
    lab.run("dom0", "--", "lab-guest", "running", watched)
    for _ in range(2):
        lab.power_cycle_vtpm(watched)
        time.sleep(5)
    # Killed in the middle of commands; the vTPM is failed from then on, until its power comes back.
    lab.dom0("systemctl kill -s KILL xen-vtpmd 'xen-vtpm-engines-*.scope'; sleep 2; systemctl reset-failed xen-vtpmd; systemctl start xen-vtpmd")
    time.sleep(5)
    lab.power_cycle_vtpm(watched)
    lab.guest(watched, "pkill -f '[h]ammer.py'", check=False)  # they may have ended with the TPM
    lab.await_tpm(watched)
    lab.guest(watched, f"tpm2_getrandom --hex 4; {UNBIND}; rmmod xen_tpmfront", timeout=600)
    # An object counts as leaked when two scans have not found it, and five seconds old.
    lab.guest(watched, "sleep 6; echo scan > /sys/kernel/debug/kmemleak; echo scan > /sys/kernel/debug/kmemleak", timeout=600)
    leaks = lab.guest(watched, "cat /sys/kernel/debug/kmemleak").stdout
    assert leaks == ""
    log = lab.guest(watched, "dmesg").stdout
    assert [line for line in log.splitlines() if COMPLAINTS.search(line)] == []
