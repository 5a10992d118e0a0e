# SPDX-License-Identifier: Apache-2.0
"""A firmware, systemd-stub and Linux, booted in QEMU with a TPM (swtpm), log the very events that `xen-vtpm launch predict` makes of
the same files. Of Debian 13. Needs root and the network."""

import base64
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess

import pytest

from debian_root import DebianRoot, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
XEN_VTPM = ROOT / "build/test/manager/xen-vtpm"
PACKAGES = ["ovmf", "systemd-boot-efi", "systemd-ukify", "linux-image-cloud-amd64", "busybox-static", "cpio", "mtools", "openssl"]
LINE = "console=ttyS0 panic=-1 quiet"
INIT = """#!/bin/busybox sh
/bin/busybox mount -t sysfs sysfs /sys; /bin/busybox mount -t securityfs securityfs /sys/kernel/security
echo "log begins"; /bin/busybox base64 /sys/kernel/security/tpm0/binary_bios_measurements; echo "log ends"
for pcr in 4 9 11; do echo "PCR $pcr $(/bin/busybox cat /sys/class/tpm/tpm0/pcr-sha256/$pcr)"; done
/bin/busybox poweroff -f
"""
MAKE = f"""cd /root; mkdir -p initrd/bin initrd/sys; cp /bin/busybox initrd/bin; chmod 755 init; mv init initrd; mknod -m 600 initrd/console c 5 1
mkdir initrd/dev; mv initrd/console initrd/dev; (cd initrd; find . | cpio --quiet -o -H newc) > initrd.img
cp /boot/vmlinuz-* vmlinuz.efi; printf %s '{LINE}' > cmdline; ls /lib/modules > uname
openssl genrsa -out key; openssl rsa -in key -pubout -out key.pub
printf '{{"sha256":[]}}' > pcrsig
set -- --linux=vmlinuz.efi --initrd=initrd.img --cmdline=@cmdline --uname="$(cat uname)"
ukify build "$@" --os-release=@/etc/os-release --pcrpkey=key.pub --section=.pcrsig:@pcrsig --output=all.efi
ukify build "$@" --os-release= --output=few.efi
"""
CALLING = b"Calling EFI Application from Boot Option"
APPLICATION, SEPARATOR = 0x80000003, 4

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a chroot")]


def events(log):
    """(PCR, type, {algorithm: digest}, data) of a crypto-agile log (PFP 1.06, 10.2)."""
    def take(form):
        nonlocal offset
        values = struct.unpack_from("<" + form, log, offset)
        offset += struct.calcsize("<" + form)
        return values
    offset = 28
    (size,) = take("I")
    banks = struct.unpack_from("<I", log, offset + 24)[0]
    sizes = dict(struct.unpack_from("<HH", log, offset + 28 + 4 * i) for i in range(banks))
    offset += size
    while offset < len(log):
        pcr, kind, count = take("III")
        digests = {}
        for _ in range(count):
            (algorithm,) = take("H")
            digests[algorithm] = take(f"{sizes[algorithm]}s")[0].hex()
        (size,) = take("I")
        yield pcr, kind, digests, take(f"{size}s")[0]


def last_launch(log):
    """In PCR 4, 9 and 11, since something was started last. Not where an image was loaded."""
    chosen = [(pcr, kind, digests, b"" if kind == APPLICATION else data) for pcr, kind, digests, data in events(log)
              if pcr in (4, 9, 11) and kind != SEPARATOR]
    return chosen[max(i for i, event in enumerate(chosen) if event[3] == CALLING):]


class Machine:
    def __init__(self, directory):
        self.directory = directory
        self.debian = DebianRoot.make(directory, PACKAGES, "trixie")
        self.home = self.debian.root / "root"
        (self.home / "init").write_text(INIT)
        self.debian.sh(MAKE)

    def boot(self, **files):
        """What its firmware finds on its disk, by path. The log, and the values of PCR 4, 9 and 11."""
        copies = [f"mmd -i disk ::{directory}" for directory in ("/EFI", "/EFI/BOOT")]
        copies += [f"mcopy -i disk {source} ::{path}" for path, source in files.items()]
        self.debian.sh("cd /root; rm -f disk; truncate -s 256M disk; mformat -i disk -F ::; " + "; ".join(copies))
        tpm = self.directory / "tpm"
        shutil.rmtree(tpm, ignore_errors=True)
        tpm.mkdir()
        run("swtpm", "socket", "--tpm2", "--daemon", "--tpmstate", f"dir={tpm}", "--ctrl", f"type=unixio,path={tpm}/sock", "--terminate")
        firmware = self.debian.root / "usr/share/OVMF"
        shutil.copy(firmware / "OVMF_VARS_4M.fd", tpm / "vars")
        text = run("timeout", "500", "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-nodefaults", "-display", "none",
                   "-serial", "stdio", "-no-reboot",
                   "-drive", f"if=pflash,format=raw,readonly=on,file={firmware}/OVMF_CODE_4M.fd", "-drive", f"if=pflash,format=raw,file={tpm}/vars",
                   "-drive", f"if=virtio,format=raw,file={self.home}/disk",
                   "-chardev", f"socket,id=tpm,path={tpm}/sock", "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm")
        text = text.replace("\r", "")
        assert "log ends" in text, text[-4000:]
        pcrs = {int(pcr): value.lower() for pcr, value in re.findall(r"^PCR (\d+) ([0-9A-F]{64})$", text, re.M)}
        return base64.b64decode(text.split("log begins\n")[1].split("log ends")[0]), pcrs

    def predict(self, *options):
        log = self.directory / "log"
        log.unlink(missing_ok=True)
        boot = json.loads(run(XEN_VTPM, "--json", "launch", "predict", "--pcrs", "sha256:4,9,11", "--event-log", log, *options))
        return log.read_bytes(), {int(pcr): value for pcr, value in boot["values"].items()}


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    directory = tmp_path_factory.mktemp("firmware")
    yield Machine(directory)
    shutil.rmtree(directory)


def check(ours, theirs):
    """The same events; of the firmware's banks, which are fewer."""
    banks = set(theirs[0][2])
    assert banks and banks <= set(ours[0][2])
    assert [(pcr, kind, {bank: digests[bank] for bank in banks}, data) for pcr, kind, digests, data in ours] == theirs


def test_a_uki_whose_initrd_is_all_that_linux_gets(machine):
    logged, pcrs = machine.boot(**{"/EFI/BOOT/BOOTX64.EFI": "few.efi"})
    predicted, values = machine.predict("--uki", machine.home / "few.efi")
    check(last_launch(predicted), last_launch(logged))
    assert pcrs == values


def test_a_uki_with_a_signature_and_a_key(machine):
    """To the initrd the stub adds what it has, each version something else; so that event is another one."""
    logged, pcrs = machine.boot(**{"/EFI/BOOT/BOOTX64.EFI": "all.efi"})
    predicted, values = machine.predict("--uki", machine.home / "all.efi")
    *ours, our_initrd = last_launch(predicted)
    *theirs, initrd = last_launch(logged)
    check(ours, theirs)
    assert our_initrd[3] == initrd[3] and our_initrd[3].endswith(b"Linux initrd\0")
    assert {event[3].decode("utf-16").rstrip("\0") for event in theirs if event[0] == 11} >= {".linux", ".osrel", ".uname", ".sbat", ".pcrpkey"}
    assert pcrs[4] == values[4] and pcrs[11] == values[11]


def test_a_kernel_with_a_command_line(machine):
    """Started by the firmware's shell, which is an application too, and gives the command's own name with the line."""
    line = f"vmlinuz.efi {LINE} initrd=\\initrd.img"
    (machine.home / "startup.nsh").write_text(f"fs0:\r\n{line}\r\n")
    logged, _ = machine.boot(**{name: name[1:] for name in ("/startup.nsh", "/vmlinuz.efi", "/initrd.img")})
    predicted, _ = machine.predict("--kernel", machine.home / "vmlinuz.efi", "--cmdline", line)
    theirs = last_launch(logged)
    shell = theirs.pop(1)
    assert shell[:2] == (4, APPLICATION)
    # Linux measures no initrd that it reads by this name. Nobody else says that there is no UKI.
    ours = [event for event in last_launch(predicted) if event[0] != 11]
    check(ours, theirs)
