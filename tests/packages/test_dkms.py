# SPDX-License-Identifier: Apache-2.0
"""xen-tpmfront-dkms, installed by apt in a bare Debian with a kernel, its headers and DKMS. Needs root and the network."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = "xen-tpmfront-dkms"
STOCK = "kernel/drivers/char/tpm/xen-tpmfront.ko"
OURS = "updates/dkms/xen-tpmfront.ko"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a chroot")


def run(*command, status=0, **options):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=1200, **options)
    assert result.returncode == status, f"{command}: exit {result.returncode}\n{result.stdout}"
    return result.stdout


def build(tree):
    """The package of a source tree."""
    run(tree / "scripts/build-dkms")
    return tree / f"build/packages/{PACKAGE}_{version(tree)}_all.deb"


def version(tree):
    return run("dpkg-parsechangelog", "-l", tree / "debian/changelog", "-S", "Version").strip()


class Guest:
    """A chroot. Its mounts are in a namespace that ends with each command, so that removing it can hit nothing else."""

    def __init__(self, root):
        self.root = root
        [self.release] = os.listdir(root / "lib/modules")

    def sh(self, script, **options):
        return run("unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self.root}/proc",
                   "chroot", self.root, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive",
                   "sh", "-ec", script, **options)

    def install(self, package):
        shutil.copy(package, self.root / "root")
        self.sh(f"apt-get install -y --no-install-recommends /root/{package.name}")

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
        listing = self.sh(f"lsinitramfs /boot/initrd.img-{self.release}").split()
        return [path.partition(f"/{self.release}/")[2] for path in listing if "tpmfront" in path]

    def add_kernel(self, release):
        """One more kernel, by name; it has the headers of the real one."""
        (self.root / "lib/modules" / release).mkdir()
        (self.root / "lib/modules" / release / "build").symlink_to(f"../{self.release}/build")


@pytest.fixture(scope="module")
def chroot():
    # Where this machine itself gets its packages from, and how.
    sources = run("sh", "-c", "apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages'"
                  " | grep -E ' bookworm(-updates|-security)? main$' | sort -u")
    options = run("sh", "-c", "apt-config dump | grep -E '^Acquire::(https?|Check-|Retries|Max-)' || true")
    with tempfile.TemporaryDirectory(prefix="xen-vtpm-dkms-", dir="/var/tmp") as directory:
        directory = pathlib.Path(directory)
        directory.chmod(0o755)
        (directory / "sources").write_text(sources)
        (directory / "apt.conf").write_text(options)
        run("mmdebstrap", "--quiet", "--variant=minbase", f"--aptopt={directory}/apt.conf", "--dpkgopt=force-unsafe-io",
            "--include=linux-image-amd64,linux-headers-amd64,dkms,openssl", "bookworm", directory / "root", directory / "sources",
            env=os.environ | {"INITRD": "No"})
        yield Guest(directory / "root")


@pytest.fixture
def guest(chroot):
    """The chroot, without the package before and after."""
    yield chroot
    chroot.remove()
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
    guest.sh(f"""
        echo MODULES=list > /etc/initramfs-tools/conf.d/small
        echo xen-tpmfront >> /etc/initramfs-tools/modules
        update-initramfs -c -k {guest.release}""")
    assert guest.initramfs() == [STOCK]
    guest.install(package)
    assert guest.initramfs() == [OURS]
    guest.remove()
    assert guest.initramfs() == [STOCK]
    guest.sh(f"update-initramfs -d -k {guest.release}")


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
