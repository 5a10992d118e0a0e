# SPDX-License-Identifier: Apache-2.0
"""The driver built into the guest's kernel: IMA has its TPM from the first measurement on."""

import re

import pytest

# A kernel command line with ima_policy=tcb comes with this kernel (tests/lab/kernel/builtin.settings).
KERNEL = ("--kernel", "builtin")


def started_init(lab, guest):
    """When the guest's kernel started its first program, in its seconds."""
    return float(re.search(r"\[ *([\d.]+)\] Run /sbin/init", lab.guest(guest, "dmesg").stdout)[1])


def boot_with_a_dead_backend(lab, guest):
    """The backend answers the toolstack, and dies before the guest's kernel starts."""
    lab.run("guest", "shutdown", guest)
    lab.dom0(f"xl create -q -p /var/lib/lab/guests/{guest}/xl.cfg; systemctl stop xen-vtpmd; xl unpause {guest}")
    lab.dom0(f"timeout 300 bash -c 'until read -rt 5 line < /dev/tcp/{guest}/22; do sleep 1; done' 2> /dev/null", timeout=400)


@pytest.fixture(scope="module", params=["pv", "pvh"])
def measured(request, lab):
    name = f"i{request.param}"
    lab.create(name, "--type", request.param, *KERNEL)
    yield name
    lab.destroy(name)


def test_ima_finds_the_tpm(lab, measured):
    log = lab.guest(measured, "dmesg").stdout
    assert "ima: Allocated hash algorithm: sha256" in log
    assert "TPM-bypass" not in log


def test_boot_aggregate_is_that_of_the_vtpms_pcrs(lab, measured):
    log = "/sys/kernel/security/ima/ascii_runtime_measurements"
    first = lab.guest(measured, f"head -n 1 {log}").stdout.split()
    assert first[0] == "10" and first[4] == "boot_aggregate"
    assert first[3] in lab.guest(measured, "evmctl ima_boot_aggregate").stdout.split()


def test_pcr_10_is_the_replay_of_the_measurements(lab, measured):
    # The first run measures evmctl itself; between list and PCR of the second nothing new is run.
    script = "cp /sys/kernel/security/ima/binary_runtime_measurements /run/list && evmctl ima_measurement /run/list"
    lab.guest(measured, script, check=False)
    result = lab.guest(measured, script)
    assert "Matched per TPM bank calculated digest(s)" in result.stdout + result.stderr
    # The same tool notices a list that lacks its last entry.
    broken = lab.guest(measured, "truncate -s -1 /run/list; evmctl ima_measurement /run/list", check=False)
    assert broken.returncode != 0


def test_a_dead_backend_does_not_stall_the_boot(lab, measured):
    quiet = started_init(lab, measured)
    try:
        boot_with_a_dead_backend(lab, measured)
        assert "TPM-bypass" in lab.guest(measured, "dmesg").stdout
        # CONNECT_SECONDS of the driver, and the noise of a busy machine; xenbus itself would wait for five minutes.
        assert started_init(lab, measured) < quiet + 15 + 15
    finally:
        lab.dom0("systemctl start xen-vtpmd")
    lab.guest(measured, "timeout 60 sh -c 'until test -c /dev/tpmrm0; do sleep 0.5; done'; tpm2_getrandom --hex 4")


def test_a_guest_without_a_vtpm_boots_all_the_same(lab):
    lab.create("bare", "--no-vtpm", *KERNEL)
    try:
        assert "TPM-bypass" in lab.guest("bare", "dmesg").stdout
        assert started_init(lab, "bare") < 30
    finally:
        lab.destroy("bare")
