# SPDX-License-Identifier: Apache-2.0
"""What Debian 13's systemd-pcrlock makes of a launch's event log, beside a TPM (swtpm) that was extended by it. Needs root and
the network."""

import json
import os
import pathlib
import shutil

import pytest

from debian_root import DebianRoot, run
from pcrlock import marks

ROOT = pathlib.Path(__file__).resolve().parents[2]
XEN_VTPM = ROOT / "build/test/manager/xen-vtpm"
PACKAGES = ["systemd", "systemd-boot-efi", "tpm2-tools", "swtpm", "libtss2-tcti-swtpm0t64", "libtss2-esys-3.0.2-0t64", "libtss2-rc0t64",
            "libtss2-mu-4.0.1-0t64"]
BANKS = ("sha1", "sha256", "sha384", "sha512")
LINE = "root=/dev/xvda ro"
# One CPU's TPM for each command: its PCRs end with it.
TPM = """cd /root; rm -rf tpm; mkdir tpm
swtpm socket --tpm2 --tpmstate dir=tpm --server type=unixio,path=/root/sock --ctrl type=unixio,path=/root/sock.ctrl \
    --flags not-need-init,startup-clear > swtpm.log 2>&1 &
until test -S sock; do sleep 0.1; done
export TPM2TOOLS_TCTI=swtpm:path=/root/sock SYSTEMD_TPM2_DEVICE=swtpm:path=/root/sock SYSTEMD_MEASURE_LOG_FIRMWARE=/root/log
sh -e extend
"""
PCRLOCK = "/usr/lib/systemd/systemd-pcrlock"

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a chroot")]


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    """With the files of a launch, its log, and the commands that extend a TPM by that."""
    directory = tmp_path_factory.mktemp("trixie")
    root = DebianRoot.make(directory, PACKAGES, "trixie")
    home = root.root / "root"
    shutil.copy(root.root / "usr/lib/systemd/boot/efi/systemd-bootx64.efi", home / "kernel")  # some PE image
    (home / "initrd").write_bytes(os.urandom(100_000))
    (home / "cmdline").write_text(LINE)
    commands = []
    for bank in BANKS:
        boot = json.loads(run(XEN_VTPM, "--json", "launch", "predict", "--kernel", home / "kernel", "--initrd", home / "initrd",
                              "--cmdline", LINE, "--pcrs", f"{bank}:2-9,11", *([] if commands else ["--event-log", home / "log"])))
        commands += [f"tpm2_pcrextend {event['pcr']}:{bank}={event['digest']}" for event in boot["events"]]
    (home / "extend").write_text("\n".join(commands) + "\n")
    yield root
    shutil.rmtree(directory)


def test_the_values_are_those_of_the_log_and_the_events_are_known(guest):
    log = guest.sh(f"{TPM} {PCRLOCK} log --no-pager")
    assert all(marks(log)[pcr][0] for pcr in (*range(2, 10), 11)), log
    assert "Linux: kernel command line" in log and "Linux: initrd" in log and "xen-vtpm: no UKI" in log
    assert marks(log)[7] == (True, True, True)
    assert not marks(log)[4][1] and not marks(log)[9][1]  # nobody has said yet what may be booted


def test_what_may_be_booted_is_recognised_and_nothing_else(guest):
    lock = (f"{PCRLOCK} lock-pe --pcrlock=/var/lib/pcrlock.d/610-kernel.pcrlock kernel; {PCRLOCK} lock-kernel-cmdline cmdline; "
            f"{PCRLOCK} lock-kernel-initrd initrd; ")
    known = marks(guest.sh(f"{TPM} {lock} {PCRLOCK} log --no-pager"))
    assert known[4][:2] == known[9][:2] == (True, True)
    other = guest.sh(f"{TPM} echo another >> cmdline; {PCRLOCK} lock-kernel-cmdline cmdline; {PCRLOCK} log --no-pager")
    assert marks(other)[4][:2] == (True, True)
    assert marks(other)[9][:2] == (True, False)
