# SPDX-License-Identifier: Apache-2.0
"""xen-tpmfront-dkms, installed by apt in a bare Debian with a kernel, its headers and DKMS. Needs root and the network."""

import os
import pathlib
import shutil
import tempfile

import pytest

from debian_root import DebianRoot, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = "xen-tpmfront-dkms"
STOCK = "kernel/drivers/char/tpm/xen-tpmfront.ko"
OURS = "updates/dkms/xen-tpmfront.ko"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a chroot")


def build(tree, kind="deb"):
    """The package of a source tree."""
    return pathlib.Path(tree / run(tree / "scripts/build-dkms", kind).splitlines()[-1])


def version(tree):
    return run("dpkg-parsechangelog", "-l", tree / "debian/changelog", "-S", "Version").strip()


class Guest(DebianRoot):
    def remove(self):
        self.sh(f"dpkg --purge {PACKAGE}")

    def module(self, release=None):
        """The path of the module that modprobe would load, in the kernel's directory."""
        release = release or self.release
        return self.sh(f"modinfo -k {release} -n xen-tpmfront").strip().removeprefix(f"/lib/modules/{release}/")

    def modinfo(self, field):
        return self.sh(f"modinfo -k {self.release} -F {field} xen-tpmfront").strip()

    def initramfs(self):
        """The drivers in it, with their paths in the kernel's directory."""
        return self.drivers(f"lsinitramfs /boot/initrd.img-{self.release}")

    def drivers(self, listing):
        paths = self.sh(listing).split()
        return [path.partition(f"/{self.release}/")[2] for path in paths if path.endswith("xen-tpmfront.ko")]

    def add_kernel(self, release):
        """One more kernel, by name; it has the headers of the real one."""
        (self.root / "lib/modules" / release).mkdir()
        (self.root / "lib/modules" / release / "build").symlink_to(f"../{self.release}/build")


@pytest.fixture(scope="module")
def chroot():
    with tempfile.TemporaryDirectory(prefix="xen-vtpm-dkms-", dir="/var/tmp") as directory:
        chroot = Guest.make(pathlib.Path(directory), ["linux-image-amd64", "linux-headers-amd64", "dkms", "openssl", "zstd",
                                                      "dracut-core", "systemd-sysv", "rpm"])
        chroot.sh("echo MODULES=list > /etc/initramfs-tools/conf.d/small")
        yield chroot


@pytest.fixture
def guest(chroot):
    """The chroot, without the package before and after."""
    yield chroot
    chroot.remove()
    chroot.sh("rm -f /etc/crypttab /boot/*.img /boot/initrd.img-*")
    for directory in (chroot.root / "lib/modules").iterdir():
        if directory.name != chroot.release:
            shutil.rmtree(directory)


@pytest.fixture(scope="module")
def package():
    return build(ROOT)


def test_lintian_is_content(package):
    changes = package.with_name(f"xen-vtpm_{version(ROOT)}_all.changes")
    run("lintian", "--allow-root", "--info", "--fail-on=error,warning", changes)


@needs_root
def test_the_module_wins_over_the_stock_one(guest, package):
    assert guest.module() == STOCK
    guest.install(package)
    assert guest.sh("dkms status").strip() == f"xen-tpmfront/{version(ROOT)}, {guest.release}, x86_64: installed"
    assert guest.module() == OURS
    # What udev asks for when there is a vTPM.
    assert guest.sh(f"modprobe -S {guest.release} --show-depends xen:vtpm").split()[-1].endswith(OURS)


@needs_root
def test_dkms_signs_with_a_key_that_it_makes_or_with_the_owners(guest, package):
    guest.install(package)
    assert guest.modinfo("signer") == "DKMS module signing key"
    assert guest.modinfo("sig_key") == serial(guest, "/var/lib/dkms/mok.pub")
    try:
        guest.sh(f"""
            mkdir /root/mok
            openssl req -new -x509 -nodes -days 365 -subj '/CN=the owner/' -newkey rsa:2048 \\
                -keyout /root/mok/key.pem -outform DER -out /root/mok/certificate.der
            echo 'mok_signing_key=/root/mok/key.pem' > /etc/dkms/framework.conf.d/mok.conf
            echo 'mok_certificate=/root/mok/certificate.der' >> /etc/dkms/framework.conf.d/mok.conf
            dpkg-reconfigure {PACKAGE}""")
        assert guest.modinfo("signer") == "the owner"
        assert guest.modinfo("sig_key") == serial(guest, "/root/mok/certificate.der")
    finally:
        guest.sh("rm -rf /root/mok /etc/dkms/framework.conf.d/mok.conf")


def serial(guest, certificate):
    digits = guest.sh(f"openssl x509 -inform DER -noout -serial -in {certificate}").strip().removeprefix("serial=")
    return ":".join(digits[i:i + 2] for i in range(0, len(digits), 2))


@needs_root
def test_an_initramfs_with_the_driver_follows(guest, package):
    modules = guest.root / "etc/initramfs-tools/modules"
    before = modules.read_text()
    modules.write_text(before + "xen-tpmfront\n")
    try:
        guest.sh(f"update-initramfs -c -k {guest.release}")
        assert guest.initramfs() == [STOCK]
        guest.install(package)
        assert guest.initramfs() == [OURS]
        guest.remove()
        assert guest.initramfs() == [STOCK]
    finally:
        modules.write_text(before)


@needs_root
def test_an_initramfs_has_the_driver_where_crypttab_wants_a_tpm(guest, package):
    guest.sh(f"echo 'vault /dev/xvda2 none luks' > /etc/crypttab; update-initramfs -c -k {guest.release}")
    guest.install(package)
    assert guest.initramfs() == []
    output = guest.sh(f"echo 'vault /dev/xvda2 none luks,tpm2-device=auto' > /etc/crypttab; update-initramfs -u -k {guest.release}")
    assert guest.initramfs() == [OURS]
    assert "xen-tpmfront" not in output
    # An empty file of its name stands for the hook.
    mask = guest.root / "etc/initramfs-tools/hooks/xen-tpmfront"
    mask.touch()
    guest.sh(f"update-initramfs -u -k {guest.release}")
    mask.unlink()
    assert guest.initramfs() == []


@needs_root
def test_an_initramfs_without_our_driver_is_made_with_a_warning(guest, package):
    guest.install(package)
    guest.sh(f"dkms uninstall xen-tpmfront/{version(ROOT)} -k {guest.release}; echo 'vault /dev/xvda2 none tpm2-device=auto' > /etc/crypttab")
    output = guest.sh(f"update-initramfs -c -k {guest.release}")
    assert f"Linux {guest.release} has no xen-tpmfront of DKMS" in output
    assert guest.initramfs() == [STOCK]
    remedy = f"dkms autoinstall -k {guest.release}"
    assert remedy in output
    assert "xen-tpmfront" not in guest.sh(f"{remedy} > /dev/null; update-initramfs -u -k {guest.release}")
    assert guest.initramfs() == [OURS]


@needs_root
def test_dracuts_image_has_the_driver_where_crypttab_wants_a_tpm(guest, package):
    guest.install(package)
    for crypttab, drivers in ("vault /dev/xvda2 none luks", []), ("vault /dev/xvda2 none luks,tpm2-device=auto", [OURS]):
        (guest.root / "etc/crypttab").write_text(crypttab + "\n")
        guest.dracut("/boot/dracut.img")
        assert guest.drivers("lsinitrd /boot/dracut.img") == drivers


@needs_root
def test_a_new_kernel_gets_the_module(guest, package):
    guest.install(package)
    guest.add_kernel("6.1.0-999-amd64")
    guest.sh("run-parts --arg=6.1.0-999-amd64 /etc/kernel/header_postinst.d")
    assert guest.module("6.1.0-999-amd64") == OURS


@needs_root
def test_a_kernel_that_is_too_old_is_passed_over(guest, package):
    guest.add_kernel("5.10.0-1-amd64")
    guest.install(package)
    assert guest.module() == OURS
    guest.sh(f"dkms build xen-tpmfront/{version(ROOT)} -k 5.10.0-1-amd64", status=77)


@needs_root
def test_an_upgrade_replaces_the_module(guest, package, tmp_path):
    for part in "debian", "kernel", "shared-protocol":
        shutil.copytree(ROOT / part, tmp_path / part)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/build-dkms", tmp_path / "scripts")
    shutil.copy(ROOT / "Kbuild", tmp_path)
    replace(tmp_path / "debian/changelog", f"({version(ROOT)})", "(99.0)")
    replace(tmp_path / "kernel/xen-tpmfront.c", "MODULE_LICENSE(", 'MODULE_INFO(test, "upgraded");\nMODULE_LICENSE(')

    guest.install(package)
    assert guest.modinfo("test") == ""
    guest.install(build(tmp_path))
    assert guest.sh("dkms status").strip() == f"xen-tpmfront/99.0, {guest.release}, x86_64: installed"
    assert guest.module() == OURS
    assert guest.modinfo("test") == "upgraded"
    assert [path.name for path in (guest.root / "usr/src").glob("xen-tpmfront-*")] == ["xen-tpmfront-99.0"]


def replace(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@needs_root
def test_removal_leaves_the_stock_module(guest, package):
    guest.install(package)
    guest.remove()
    assert guest.module() == STOCK
    assert guest.sh("dkms status") == ""
    assert run("find", guest.root / "lib/modules", guest.root / "usr/src", guest.root / "var/lib/dkms",
               "(", "-path", "*tpmfront*", "-o", "-path", "*/updates*", ")", "-not", "-path", f"*/{STOCK}") == ""


@pytest.fixture(scope="module")
def rpm():
    return build(ROOT, "rpm")


def test_rpmlint_is_content(rpm):
    run("rpmlint", "--strict", "--config", ROOT / "tests/packages/rpmlint.toml", rpm, rpm.with_name(rpm.name.replace(".noarch.", ".src.")),
        ROOT / f"kernel/dkms/{PACKAGE}.spec")


@needs_root
def test_the_rpm_has_what_the_deb_has(rpm, package):
    """But for what is Debian's own."""
    ours = set(run("rpm", "-qpl", rpm).split())
    deb = {line.split()[5].removeprefix(".").rstrip("/") for line in run("dpkg-deb", "--contents", package).splitlines()}
    assert {path for path in deb - ours if not path.startswith(("/usr/share/doc/", "/usr/share/initramfs-tools"))} == {
        "", "/usr", "/usr/lib", "/usr/lib/dracut", "/usr/lib/dracut/modules.d", "/usr/libexec", "/usr/share", "/usr/share/dkms",
        "/usr/share/dkms/modules_to_force_install", "/usr/share/doc", "/usr/src"}
    assert [path for path in ours - deb if not path.startswith(f"/usr/share/doc/{PACKAGE}-")] == []


@needs_root
def test_the_rpm_builds_the_module_by_dkms(guest, rpm):
    """By Debian's DKMS, for Debian's kernel: those of Fedora and its kin are not among Debian's packages. To rpm, there is no dkms."""
    shutil.copy(rpm, guest.root / "root")
    try:
        guest.sh(f"rpm --install --nodeps /root/{rpm.name}")
        assert guest.module() == OURS
        assert guest.sh("dkms status").strip() == f"xen-tpmfront/{version(ROOT)}, {guest.release}, x86_64: installed"
    finally:
        guest.sh(f"rpm --erase {PACKAGE}")
    assert guest.module() == STOCK
    assert guest.sh("dkms status") == ""
