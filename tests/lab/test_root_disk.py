# SPDX-License-Identifier: Apache-2.0
"""A guest whose root disk opens by its TPM: at power-on, with no password, and nobody at the keyboard. The initramfs is made by
Debian's tools, and ours is the hook of the driver's package that puts the driver in. Takes long: a Debian root is made first."""

import lzma
import os
import pathlib
import subprocess
import tempfile
import time

import pytest

from debian_root import DebianRoot, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
VTPM, OTHER_VTPM = "0d3f7d52-6f0b-4b8e-9a53-7f6ad3f6f0a1", "0d3f7d52-6f0b-4b8e-9a53-7f6ad3f6f0a2"
DISK, DISK_UUID = "/root/root-disk", "6f0f5f0e-1f57-4d3a-8a3a-5a8f4b1c2d3e"
PACKAGES = ["linux-image-amd64", "linux-headers-amd64", "dkms", "zstd", "cryptsetup-initramfs", "clevis-initramfs", "clevis-tpm2",
            "clevis-luks", "dracut-core", "systemd-sysv", "tpm2-tools"]
# What `clevis luks bind` needs, but for what the lab's guests have.
CLEVIS = ["clevis", "clevis-luks", "clevis-tpm2", "jose", "libjose0", "libjansson4", "luksmeta", "libluksmeta0",
          "libpwquality-tools", "libpwquality1", "libcrack2"]

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a Debian root")]

# The root file system is no more than this: it says where it lies, and ends.
INIT = """#!/bin/sh
/bin/busybox mount -t proc proc /proc
while read -r device directory rest; do
    [ "$directory" != / ] || echo "the root file system is on $device" > /dev/console
done < /proc/mounts
/bin/busybox poweroff -f
"""

INSTALL = f"""
set -e
cd /root
printf secret > password
cryptsetup luksFormat -q --type luks2 --uuid {DISK_UUID} --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/xvdb password
cryptsetup open --key-file password /dev/xvdb vault
mkfs.ext4 -q /dev/mapper/vault
mount /dev/mapper/vault /mnt
mkdir /mnt/bin /mnt/sbin /mnt/etc /mnt/proc /mnt/sys /mnt/dev /mnt/run
cp /bin/busybox /mnt/bin/
ln -s busybox /mnt/bin/sh
cp init /mnt/sbin/init
chmod 755 /mnt/sbin/init
# Without this file it is no root file system for systemd.
touch /mnt/etc/os-release
umount /mnt
cryptsetup close vault
tar -C / -xf clevis.tar
ldconfig
clevis luks bind -y -k password -d /dev/xvdb tpm2 '{{"pcr_bank":"sha256"}}'
PASSWORD=secret systemd-cryptenroll --tpm2-device=auto --tpm2-pcrs= /dev/xvdb
sync
"""


@pytest.fixture(scope="module")
def files():
    """What dom0 needs: the kernel, an initramfs by each of the two generators, and clevis."""
    with tempfile.TemporaryDirectory(prefix="xen-vtpm-root-disk-", dir="/var/tmp") as directory:
        directory = pathlib.Path(directory)
        debian = DebianRoot.make(directory, PACKAGES)
        make_initramfs(debian)
        files = directory / "files"
        files.mkdir()
        unpack_kernel(debian.root / f"boot/vmlinuz-{debian.release}", files / "vmlinux")
        for name, image in ("initramfs-tools", f"initrd.img-{debian.release}"), ("dracut", "dracut.img"):
            (debian.root / "boot" / image).rename(files / name)
        debian.sh(f"""dpkg -L {' '.join(CLEVIS)} | grep -E '^/usr/(bin|lib)/|^/lib/' |
            while read -r file; do test -d $file || echo $file; done | tar -cf /root/clevis.tar -T - /var/cache/cracklib""")
        (debian.root / "root/clevis.tar").rename(files / "clevis.tar")
        (files / "init").write_text(INIT)
        (files / "install").write_text(INSTALL)
        yield files


def make_initramfs(debian):
    package = run(ROOT / "scripts/build-dkms").splitlines()[-1]
    debian.install(ROOT / package)
    # Only what a root disk takes, because an emulated machine has to unpack it; of a TPM not a word. Nor is there one in
    # crypttab for clevis: its hook brings the TPM's tools.
    (debian.root / "etc/initramfs-tools/conf.d/small").write_text("MODULES=list\n")
    (debian.root / "etc/initramfs-tools/modules").write_text("xen-blkfront\next4\ncrc32c_generic\n")
    crypttab = debian.root / "etc/crypttab"
    crypttab.write_text(f"vault UUID={DISK_UUID} none luks,initramfs\n")
    debian.sh(f"update-initramfs -c -k {debian.release}")
    # The disk is not there: so dracut is told what it takes, and to include crypttab's line ("force"). On the guest itself it sees.
    # The time-outs are for an emulated machine that has other work too.
    crypttab.write_text(f"vault UUID={DISK_UUID} none luks,tpm2-device=auto,force,"
                        "token-timeout=900,x-systemd.device-timeout=900\n")
    debian.dracut("/boot/dracut.img", "--add crypt", "--omit kernel-modules-extra",
                  "--add-drivers 'xen-blkfront ext4 crc32c_generic dm-crypt xts'")


def unpack_kernel(image, target):
    """Xen would do it too, but slowly under emulation. Offsets: Linux, Documentation/x86/boot.rst ("payload_offset")."""
    data = image.read_bytes()
    payload = (data[0x1f1] + 1) * 512 + int.from_bytes(data[0x248:0x24c], "little")
    target.write_bytes(lzma.LZMADecompressor().decompress(data[payload:]))


@pytest.fixture(scope="module")
def disk(lab, files):
    """In dom0: the files, and the disk, as an installer leaves it that ran in a guest with the TPM."""
    lab.run("push", str(files), DISK, timeout=600)
    lab.create("installer", "--vtpm", VTPM)
    lab.dom0(f"truncate -s 64M {DISK}/disk && losetup /dev/loop40 {DISK}/disk && xl block-attach installer "
             "format=raw,vdev=xvdb,access=rw,script=/usr/local/sbin/lab-block,target=/dev/loop40")
    for name in "init", "install", "clevis.tar":
        lab.run("push", "--guest", "installer", str(files / name), f"/root/{name}")
    lab.guest("installer", "sh -x /root/install", timeout=900)
    lab.destroy("installer")


class Guest:
    """A domain that boots from the disk."""

    def __init__(self, lab, type, generator, vtpm, kernel_arguments=""):
        self.lab, self.name = lab, f"{generator}-{type}"
        lab.dom0(f"""rm -f {self.log}; cat > {DISK}/xl.cfg << END
name="{self.name}"
type="{type}"
kernel="{DISK}/vmlinux"
ramdisk="{DISK}/{generator}"
extra="console=hvc0 root=/dev/mapper/vault ro loglevel=6 mitigations=off audit=0 cryptomgr.notests pci=off {kernel_arguments}"
memory=320
vcpus=1
tsc_mode="native"
disk=["format=raw,vdev=xvda,access=rw,script=/usr/local/sbin/lab-block,target=/dev/loop40"]
vtpm=["backend=0,uuid={vtpm}"]
on_crash="destroy"
END
xl create -q {DISK}/xl.cfg""")

    @property
    def log(self):
        return f"/var/log/xen/console/guest-{self.name}.log"

    def console(self):
        return self.lab.dom0(f"cat {self.log}").stdout

    def await_line(self, text, limit=900):
        """Seconds until the console shows it."""
        start = time.monotonic()
        result = self.lab.dom0(f"for i in $(seq {limit // 2}); do ! grep -q '{text}' {self.log} || exit 0; sleep 2; done; exit 1",
                               check=False, timeout=3 * limit)
        assert result.returncode == 0, self.console()[-4000:]
        return time.monotonic() - start

    def type(self, line):
        self.lab.dom0(f"echo {line} > $(xenstore-read /local/domain/$(xl domid {self.name})/console/tty)")

    def await_end(self):
        self.lab.dom0(f"for i in $(seq 60); do xl domid {self.name} 2> /dev/null || exit 0; sleep 1; done; exit 1")


ASKS, OPEN = "Please unlock disk vault", "the root file system is on /dev/mapper/vault"


@pytest.mark.parametrize("type", ["pv", "pvh"])
def test_clevis_opens_it(lab, disk, type):
    guest = Guest(lab, type, "initramfs-tools", VTPM)
    guest.await_line(OPEN)
    guest.await_end()


def test_with_another_tpm_it_stays_shut_but_for_the_password(lab, disk):
    guest = Guest(lab, "pv", "initramfs-tools", VTPM)
    guest.await_line(ASKS)
    took = guest.await_line(OPEN)
    guest.await_end()
    guest = Guest(lab, "pv", "initramfs-tools", OTHER_VTPM)
    guest.await_line(ASKS)
    time.sleep(2 * took + 10)
    assert OPEN not in guest.console() and "set up successfully" not in guest.console()
    guest.type("secret")
    guest.await_line(OPEN)
    guest.await_end()


@pytest.mark.parametrize("type", ["pv", "pvh"])
def test_systemd_opens_it_in_dracuts_image(lab, disk, type):
    guest = Guest(lab, type, "dracut", VTPM,
                  "rd.retry=900 rd.timeout=900 systemd.default_timeout_start_sec=900 systemd.show_status=0")
    guest.await_line(OPEN)
    guest.await_end()
    assert "Please enter passphrase" not in guest.console()
