# SPDX-License-Identifier: Apache-2.0
"""The driver built into the guest's kernel: IMA has its TPM from the first measurement on, and so have trusted keys.

In Linux 6.1, where scripts/kernel-tree has put this tree's driver, and in the newest Linux with the patches of
scripts/kernel-series."""

import re

import pytest

pytestmark = pytest.mark.long

# The PCRs in the form that evmctl reads.
PCRS = "for pcr in $(seq 0 23); do printf 'PCR-%02d:%s\\n' $pcr $(cat /sys/class/tpm/tpm0/pcr-sha256/$pcr); done > /run/pcrs"
# A kernel command line with ima_policy=tcb comes with this kernel (tests/lab/kernel/builtin.settings).
KERNELS = ("builtin", "mainline")


def started_init(lab, guest):
    """When the guest's kernel started its first program, in its seconds."""
    return float(re.search(r"\[ *([\d.]+)\] Run /sbin/init", lab.guest(guest, "dmesg").stdout)[1])


def boot_with_a_dead_backend(lab, guest):
    """The backend answers the toolstack, and dies before the guest's kernel starts."""
    lab.run("guest", "shutdown", guest)
    lab.dom0(f"xl create -q -p /var/lib/lab/guests/{guest}/xl.cfg; systemctl stop xen-vtpmd; xl unpause {guest}")
    lab.dom0(f"timeout 300 bash -c 'until read -rt 5 line < /dev/tcp/{guest}/22; do sleep 1; done' 2> /dev/null", timeout=400)


@pytest.fixture(scope="module", params=[f"{kernel}-{type}" for kernel in KERNELS for type in ("pv", "pvh")])
def measured(request, lab):
    kernel, type = request.param.split("-")
    name = f"i{kernel[0]}{type}"
    lab.create(name, "--type", type, "--kernel", kernel)
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
    assert first[3] in lab.guest(measured, f"{PCRS}; evmctl ima_boot_aggregate --pcrs sha256,/run/pcrs").stdout.split()


def test_pcr_10_is_the_replay_of_the_measurements(lab, measured):
    # The first run measures the programs that take part; between list and PCRs of the second nothing new is run.
    check = "evmctl ima_measurement --pcrs sha256,/run/pcrs /run/list"
    script = f"cp /sys/kernel/security/ima/binary_runtime_measurements /run/list; {PCRS}; {check}"
    lab.guest(measured, script, check=False)
    result = lab.guest(measured, script)
    assert "Matched per TPM bank calculated digest(s)" in result.stdout + result.stderr
    # The same tool notices another PCR 10.
    broken = lab.guest(measured, f"sed -i /PCR-10/s/0/1/ /run/pcrs; {check}", check=False)
    assert broken.returncode != 0


def test_a_trusted_key_is_the_same_after_a_reboot(lab, measured):
    lab.guest(measured, "set -e; cd /root; keyctl link @u @s; tpm2_createprimary -Q -C o -c primary.ctx; "
                        "tpm2_evictcontrol -Q -C o -c 0x81000001 2> /dev/null || true; "
                        "tpm2_evictcontrol -Q -C o -c primary.ctx 0x81000001; "
                        "keyctl pipe $(keyctl add trusted kmk 'new 32 keyhandle=0x81000001' @u) > kmk.blob; "
                        "keyctl pipe $(keyctl add encrypted evm 'new trusted:kmk 32' @u) > evm.blob; sync")
    lab.run("guest", "reboot", measured, timeout=600)
    lab.guest(measured, "set -e; cd /root; keyctl link @u @s; "
                        "keyctl add trusted kmk \"load $(cat kmk.blob) keyhandle=0x81000001\" @u; "
                        "keyctl pipe $(keyctl add encrypted evm \"load $(cat evm.blob)\" @u) | cmp - evm.blob")
    # What was sealed opens nowhere else: one digit of it is changed.
    broken = lab.guest(measured, "keyctl add trusted other \"load $(sed -E 's/(.*)0/\\11/' /root/kmk.blob) keyhandle=0x81000001\" @u", check=False)
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
    # It comes late, but whole: the core knows its PCR banks.
    lab.await_tpm(measured)
    lab.guest(measured, "set -e; tpm2_getrandom --hex 4; cat /sys/class/tpm/tpm0/pcr-sha256/0")


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_guest_without_a_vtpm_boots_all_the_same(lab, kernel):
    lab.create("bare", "--no-vtpm", "--kernel", kernel)
    try:
        assert "TPM-bypass" in lab.guest("bare", "dmesg").stdout
        assert started_init(lab, "bare") < 30
    finally:
        lab.destroy("bare")
