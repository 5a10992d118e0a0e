# SPDX-License-Identifier: Apache-2.0
"""The manager under its real unit: what the sandbox lets through of its configuration, credentials, the clock."""

import json
import time

import pytest

UNIT = "xen-vtpm-managerd.service"
DROP_INS = f"/etc/systemd/system/{UNIT}.d"
CONFIG = "/etc/xen-vtpm/manager.toml"


def status(lab):
    return json.loads(lab.dom0("xen-vtpm --json status", check=False).stdout)["manager"]


def restart(lab):
    """Both daemons; it may fail. Long enough for the manager's first attempt at the TPM."""
    lab.dom0(f"systemctl daemon-reload; systemctl reset-failed; systemctl restart {UNIT} xen-vtpmd", check=False)


def journal(lab):
    return lab.dom0(f"journalctl --no-pager -u {UNIT} --since -1min").stdout


def await_state(lab, expected, limit=60):
    deadline = time.monotonic() + limit
    while (now := status(lab))["state"] != expected:
        assert time.monotonic() < deadline, now
        time.sleep(1)
    return now


@pytest.fixture
def unit(lab):
    """As it was, afterwards."""
    lab.dom0(f"cp -a {CONFIG} /root/manager.toml.before 2>/dev/null || touch {CONFIG}")
    yield
    lab.dom0(f"rm -rf {DROP_INS} /etc/systemd/system/xen-vtpmd.service.d; "
             f"if test -e /root/manager.toml.before; then mv /root/manager.toml.before {CONFIG}; else rm {CONFIG}; fi")
    restart(lab)


def drop_in(lab):
    """Of both units, as xen-vtpm-managerd(8) says."""
    for name in (UNIT, "xen-vtpmd.service"):
        lab.dom0(f"mkdir -p /etc/systemd/system/{name}.d && "
                 f"xen-vtpm-managerd --drop-in {name} > /etc/systemd/system/{name}.d/config.conf")


def test_a_state_directory_elsewhere_is_let_through_by_the_drop_in_that_the_refusal_names(lab, unit):
    lab.dom0("install -d -o xen-vtpm -g xen-vtpm -m 700 /srv/vtpm")
    lab.dom0(f"echo 'state_directory = \"/srv/vtpm\"' >> {CONFIG}")
    restart(lab)
    assert lab.dom0(f"systemctl is-active {UNIT}", check=False).stdout.strip() != "active"
    refusal = journal(lab)
    assert "/srv/vtpm" in refusal and f"xen-vtpm-managerd --drop-in {UNIT}" in refusal
    drop_in(lab)
    # What the TPM knows of the store that was meant before: with it, an empty one is refused.
    lab.dom0("for index in $(tpm2_getcap handles-nv-index | cut -c3-); do tpm2_nvundefine -C o $index; done")
    restart(lab)
    assert await_state(lab, "ready")["store"] == "/srv/vtpm/store.db"
    lab.dom0(f"xen-vtpm create && systemctl restart {UNIT} && test -s /srv/vtpm/store.db")
    assert await_state(lab, "ready")["vtpms"] == 1


@pytest.fixture
def renewed(lab):
    lab.renew()
    return lab


def test_a_socket_and_a_tcti_elsewhere_are_let_through(renewed, unit):
    lab = renewed
    lab.dom0("chgrp tss /dev/tpm0 && chmod 660 /dev/tpm0")
    lab.dom0(f"printf 'socket = \"/run/vtpm-2/manager.sock\"\\ntcti = \"device:/dev/tpm0\"\\n' >> {CONFIG}")
    restart(lab)
    assert f"xen-vtpm-managerd --drop-in {UNIT}" in journal(lab)
    drop_in(lab)
    restart(lab)
    await_state(lab, "ready")
    lab.dom0("test -S /run/vtpm-2/manager.sock")
    lab.create("elsewhere")
    lab.await_tpm("elsewhere")
    lab.destroy("elsewhere")


@pytest.mark.parametrize("encrypted", [False, True])
def test_an_owner_hierarchy_with_a_password_is_used_by_a_credential(renewed, unit, encrypted):
    lab = renewed
    lab.dom0("tpm2_changeauth -c owner a-long-random-password")
    restart(lab)
    refused = status(lab)
    assert refused["state"] == "refusing" or "hierarchy has another authorization value" in json.dumps(refused)
    assert "tpm-owner-password" in lab.dom0("xen-vtpm status", check=False).stdout
    file, key = "/etc/xen-vtpm/tpm-owner-password", "LoadCredential"
    lab.dom0(f"umask 077; printf a-long-random-password > {file}")
    if encrypted:
        lab.dom0(f"systemd-creds encrypt --with-key=host --name=tpm-owner-password {file} {file}.cred && rm {file}")
        file, key = f"{file}.cred", "LoadCredentialEncrypted"
    lab.dom0(f"mkdir -p {DROP_INS} && printf '[Service]\\n{key}=tpm-owner-password:{file}\\n' > {DROP_INS}/password.conf")
    restart(lab)
    await_state(lab, "ready")
    lab.dom0("xen-vtpm group create tenant --tpm-only && xen-vtpm group delete --yes tenant")
    assert "a-long-random-password" not in journal(lab)
    # One that is wrong is told.
    lab.dom0(f"sed -i s/{key}=.*/LoadCredential=tpm-owner-password:\\\\/etc\\\\/hostname/ {DROP_INS}/password.conf")
    restart(lab)
    assert "tpm-owner-password" in lab.dom0("xen-vtpm status", check=False).stdout


def test_a_clock_that_is_wrong_is_said(renewed, unit):
    lab = renewed
    # Nothing synchronises it here, and the unit's filter of system calls lets the manager ask.
    assert "nothing has synchronised it" in status(lab)["clock_trouble"]
    # As NTP's clients do, and then without them.
    lab.dom0("python3 - <<'END'\n"
             "import ctypes\n"
             "class Timex(ctypes.Structure):\n"
             "    _fields_ = [('modes', ctypes.c_uint), ('offset', ctypes.c_long), ('freq', ctypes.c_long),\n"
             "                ('maxerror', ctypes.c_long), ('esterror', ctypes.c_long), ('status', ctypes.c_int),\n"
             "                ('rest', ctypes.c_byte * 256)]\n"
             "timex = Timex(modes=0x10 | 0x4 | 0x8, status=0)\n"
             "assert ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) >= 0\n"
             "END")
    assert status(lab)["clock_trouble"] == ""
    before = lab.dom0("date +%s; date -s 2001-01-01 >&2").stdout.split()[0]
    try:
        trouble = status(lab)["clock_trouble"]
        assert "2001-01-01" in trouble and "before this program was built" in trouble
        assert "the clock of this host" in lab.dom0("xen-vtpm status", check=False).stdout
    finally:
        lab.dom0(f"date -s @{before}")


def test_a_tpm_that_comes_after_the_unit_is_used_whatever_its_number(renewed, unit):
    """Who holds the former device keeps its number: the driver that is bound again makes /dev/tpm1."""
    lab = renewed
    device = lab.dom0("basename $(realpath /sys/class/tpm/tpm0/device)").stdout.strip()
    driver = lab.dom0("realpath /sys/class/tpm/tpm0/device/driver").stdout.strip()
    lab.dom0("systemd-run --quiet --unit=holder sh -c 'exec sleep infinity < /dev/tpmrm0'")
    try:
        # As a host whose TPM's driver comes late: the unit starts without one.
        lab.dom0(f"systemctl stop {UNIT}; echo {device} > {driver}/unbind; systemctl start {UNIT}", check=False)
        assert await_state(lab, "refusing")["groups_waiting"] == 1
        lab.dom0(f"echo {device} > {driver}/bind; udevadm settle; test -c /dev/tpmrm1 && test ! -e /dev/tpm0")
        await_state(lab, "ready")
        lab.dom0("xen-vtpm create && xen-vtpm group create late --tpm-only && xen-vtpm group delete --yes late")
        # And while it runs: what needs the TPM fails or waits meanwhile.
        lab.dom0("systemctl stop holder")
        lab.dom0(f"echo {device} > {driver}/unbind; echo {device} > {driver}/bind; udevadm settle; ls /dev/tpmrm*")
        lab.dom0("xen-vtpm group create again --tpm-only && xen-vtpm group delete --yes again")
    finally:
        lab.dom0(f"systemctl stop holder; ls /dev/tpmrm* || echo {device} > {driver}/bind", check=False)
