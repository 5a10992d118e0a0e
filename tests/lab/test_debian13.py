# SPDX-License-Identifier: Apache-2.0
"""A guest of Debian 13 whose launch is measured, and what its systemd makes of that: systemd-pcrlock knows the events, and
disks open for the kernel, initrd and command line that they were enrolled for, or for UKIs that somebody signed. Takes long: a
Debian root is made first, and booted seven times."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from debian_root import DebianRoot, run
from pcrlock import marks

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLACE, VTPM = "/root/debian13", "0d3f7d52-6f0b-4b8e-9a53-7f6ad3f6f013"
PACKAGES = ["linux-image-amd64", "linux-headers-amd64", "dkms", "binutils", "zstd", "initramfs-tools", "systemd-sysv", "systemd-cryptsetup",
            "systemd-boot-efi", "systemd-ukify", "tpm2-tools", "cryptsetup-bin", "udev", "kmod", "openssl"]
LINE = ("console=hvc0 root=/dev/xvda rw mitigations=off audit=0 cryptomgr.notests pci=off loglevel=4 systemd.show_status=0 "
        "SYSTEMD_COLORS=0 TERM=dumb")

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a Debian root")]

# What the second disk says is done at each boot, and then the guest ends.
UNIT = """[Service]
Type=oneshot
ExecStart=/bin/sh -c 'tr -d "\\\\000" < /dev/xvdb > /run/steps; exec sh /root/at-boot > /dev/hvc0 2>&1'
ExecStopPost=/bin/systemctl poweroff --no-block
"""
# A systemd in the initrd copies what came with a UKI to /run/systemd. This initrd has none.
EXTRA = """#!/bin/sh
[ "$1" = prereqs ] || [ ! -d /.extra ] || { mkdir -p /run/systemd; cat /.extra/tpm2-pcr-signature.json > /run/systemd/tpm2-pcr-signature.json; }
"""
AT_BOOT = """
modprobe xen-tpmfront; for i in 1 2 3 4 5 6 7 8 9; do test -e /dev/tpmrm0 && break; sleep 1; done
mount -t securityfs securityfs /sys/kernel/security || true
export PASSWORD=secret
disk() { # name
    DISK=/root/$1; truncate -s 20M $DISK; printf secret | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $DISK -
}
opens() {
    if systemd-cryptsetup attach $1 /root/$1 - tpm2-device=auto,headless=1,tries=1${2+,$2}; then echo "$1 is open"; else echo "$1 is shut"; fi
}
. /run/steps
echo "end of the steps"
"""


def documented(heading):
    """The commands that docs/measured-launch.md has there, as a user would copy them."""
    return (ROOT / "docs/measured-launch.md").read_text().split(f"### {heading}\n")[1].split("```\n")[1]


UKIS = f"""cd /root; mkdir first second foreign; K=$(ls /lib/modules)
cp /boot/vmlinuz-$K first/vmlinuz; sed 's/debian-kernel@/another-words@/' first/vmlinuz > second/vmlinuz; cp second/vmlinuz foreign/
! cmp -s first/vmlinuz second/vmlinuz
for key in maker other; do openssl genrsa -out $key.key 2048; openssl rsa -in $key.key -pubout -out $key.pub; done
for uki in first second foreign; do
    cd /root/$uki; cp /boot/initrd.img-$K initrd.img; cp /etc/os-release .; printf %s '{LINE}' > cmdline; printf %s $K > uname
    key=maker; [ $uki != foreign ] || key=other
    cp ../$key.key maker.key; cp ../$key.pub maker.pub
    {documented("A UKI whose maker signed it")}
    cp pcrsig ../$uki.pcrsig; cp linux.efi ../$uki.efi
done
"""
# What no step needs: an emulated machine has to take the disk.
PRUNE = """rm -rf /usr/src /usr/libexec/gcc /usr/lib/gcc /usr/share/doc /usr/share/locale /usr/share/man /usr/lib/x86_64-linux-gnu/lib*san* \
    /var/lib/apt/lists/* /var/cache/apt /usr/share/perl* /usr/lib/x86_64-linux-gnu/perl /usr/lib/x86_64-linux-gnu/gconv /usr/share/zoneinfo \
    /usr/bin/*-linux-gnu-* /root/*.efi /root/first /root/second /root/foreign
cd /usr/lib/modules/*/kernel; rm -rf sound drivers/gpu drivers/media drivers/net drivers/infiniband drivers/scsi drivers/usb drivers/staging
depmod $(ls /lib/modules)
"""


@pytest.fixture(scope="module")
def files():
    with tempfile.TemporaryDirectory(prefix="xen-vtpm-debian13-", dir="/var/tmp") as directory:
        directory = pathlib.Path(directory)
        debian = DebianRoot.make(directory, PACKAGES, "trixie")
        debian.install(ROOT / run(ROOT / "scripts/build-dkms").splitlines()[-1])
        root, files = debian.root, directory / "files"
        files.mkdir()
        (root / "etc/initramfs-tools/conf.d/small").write_text("MODULES=list\n")
        (root / "etc/initramfs-tools/modules").write_text("xen-blkfront\next4\ncrc32c_generic\n")
        extra = root / "etc/initramfs-tools/scripts/init-bottom/extra"
        extra.write_text(EXTRA)
        extra.chmod(0o755)
        units = root / "etc/systemd/system"
        (units / "steps.service").write_text(UNIT)
        (units / "multi-user.target.wants").mkdir(exist_ok=True)
        (units / "multi-user.target.wants/steps.service").symlink_to("../steps.service")
        (units / "serial-getty@hvc0.service").symlink_to("/dev/null")
        (root / "root/at-boot").write_text(AT_BOOT)
        debian.sh(f"update-initramfs -c -k {debian.release}")
        debian.sh(UKIS)
        for name in "first", "second", "foreign":
            shutil.move(root / f"root/{name}.efi", files)
        shutil.copy(root / f"boot/vmlinuz-{debian.release}", files / "vmlinuz")
        shutil.copy(root / f"boot/initrd.img-{debian.release}", files / "initrd")
        debian.sh(PRUNE)
        run("mke2fs", "-q", "-t", "ext4", "-d", root, directory / "disk", "500M")
        with open(files / "disk.gz", "wb") as compressed:
            subprocess.run(["gzip", "-1", "-c", directory / "disk"], stdout=compressed, check=True)
        yield files


class Guest:
    def __init__(self, lab):
        self.lab = lab

    def boot(self, steps, kernel, line=LINE):
        """The console's text, when the steps are done and the guest has ended. `kernel`: a UKI, or with initrd and line."""
        files = "" if kernel.endswith(".efi") else f"ramdisk=\"{PLACE}/initrd\"\nextra=\"{line}\""
        self.lab.dom0(f"""cd {PLACE}; cat > steps; truncate -s 64K steps
log=/var/log/xen/console/guest-debian13.log; rm -f $log
losetup /dev/loop40 disk; losetup -r /dev/loop41 steps
cat > xl.cfg << END
name="debian13"
type="pvh"
bootloader="xen-vtpm-launch"
kernel="{PLACE}/{kernel}"
{files}
memory=350
vcpus=1
tsc_mode="native"
disk=["format=raw,vdev=xvda,access=rw,script=/usr/local/sbin/lab-block,target=/dev/loop40",
      "format=raw,vdev=xvdb,access=r,script=/usr/local/sbin/lab-block,target=/dev/loop41"]
vtpm=["backend=0,uuid={VTPM}"]
on_crash="destroy"
END
xl create -q xl.cfg
for i in $(seq 450); do xl domid debian13 2> /dev/null || break; sleep 2; done
for loop in 40 41; do losetup -d /dev/loop$loop; done""", input=steps, timeout=2000)
        text = self.lab.dom0("cat /var/log/xen/console/guest-debian13.log").stdout.replace("\r", "")
        assert "end of the steps" in text, text[-4000:]
        return text


@pytest.fixture(scope="module")
def guest(lab, files):
    for name in "pv", "pvh":
        lab.run("guest", "shutdown", name)  # their memory
    lab.dom0(f"mkdir {PLACE}")
    for file in files.iterdir():
        lab.run("push", str(file), f"{PLACE}/{file.name}", timeout=600)
    lab.dom0(f"cd {PLACE}; gzip -dc disk.gz | dd of=disk bs=1M conv=sparse iflag=fullblock 2> /dev/null; rm disk.gz", timeout=600)
    return Guest(lab)


def pcr(text, number):
    return re.search(rf"^ +{number} *: 0x([0-9A-F]{{64}})$", text, re.M)[1].lower()


def test_pcrlock_recognises_every_event_and_disks_open(guest):
    text = guest.boot(f"""disk policy
{documented("systemd-pcrlock")}
systemd-pcrlock log --no-pager; opens policy
disk values; systemd-cryptenroll --tpm2-device=auto --tpm2-pcrs=4+9 $DISK; opens values
""", "vmlinuz")
    assert all(marks(text)[pcr][:2] == (True, True) for pcr in range(16)), text
    assert "values is open" in text and "policy is open" in text


def test_one_byte_of_the_command_line_shuts_them(guest):
    text = guest.boot("/usr/lib/systemd/systemd-pcrlock log --no-pager; opens values; opens policy", "vmlinuz", LINE + "1")
    assert marks(text)[4][:2] == (True, True) and marks(text)[9][:2] == (True, False), text
    assert "values is shut" in text and "policy is shut" in text


def test_with_the_line_as_it_was_they_open(guest):
    text = guest.boot("opens values; opens policy", "vmlinuz")
    assert "values is open" in text and "policy is open" in text


def test_a_disk_that_trusts_a_maker_of_ukis_opens_for_those_that_he_signed(guest):
    text = guest.boot("tpm2_pcrread sha256:11; disk signed; cd /root; "
                      "systemd-cryptenroll --tpm2-device=auto --tpm2-pcrlock= --tpm2-pcrs= --tpm2-public-key=maker.pub --tpm2-public-key-pcrs=11 $DISK; "
                      "opens signed; opens values", "first.efi")
    predicted = guest.lab.dom0(f"xen-vtpm launch predict --pcrs sha256:11 --uki {PLACE}/first.efi").stdout
    assert pcr(text, 11) in predicted
    assert "signed is open" in text and "values is shut" in text
    assert "signed is open" in guest.boot("opens signed", "second.efi")


def test_it_stays_shut_for_one_that_somebody_else_signed_and_for_none(guest):
    assert "signed is shut" in guest.boot("opens signed", "foreign.efi")
    assert "signed is shut" in guest.boot("opens signed tpm2-signature=/root/first.pcrsig", "vmlinuz")
