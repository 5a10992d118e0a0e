# SPDX-License-Identifier: Apache-2.0
"""The packages of scripts/packages, for both releases: what is in them, what they need, and that they install where neither Xen nor
systemd runs. On a Xen host: tests/lab/test_packages.py. Needs root and the network."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from debian_root import DebianRoot, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ["xen-tpmfront-dkms", "xen-vtpm", "xen-vtpm-guest", "xen-vtpm-verifier"]
SUFFIX = {"bookworm": "+deb12", "trixie": "+deb13"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a chroot")


def build(release):
    """By name."""
    subprocess.run([ROOT / "scripts/packages", release], check=True, stdout=subprocess.DEVNULL, timeout=1800)
    found = (ROOT / "build/packages" / release).glob("*.deb")
    return {path.name.partition("_")[0]: path for path in found}


def digests(packages):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in packages.values()}


@pytest.fixture(scope="module", params=SUFFIX)
def release(request):
    return request.param


@pytest.fixture(scope="module")
def packages(release):
    return build(release)


@pytest.fixture(scope="module")
def chroot(release):
    with tempfile.TemporaryDirectory(prefix="xen-vtpm-debs-", dir="/var/tmp") as directory:
        root = DebianRoot.make(pathlib.Path(directory), ["ca-certificates"], release)
        shutil.copy("/etc/resolv.conf", root.root / "etc")
        root.sh("apt-get -q update")
        yield root
        run("rm", "-rf", "--one-file-system", str(root.root))


def field(package, name):
    return run("dpkg-deb", "-f", str(package), name).strip()


def test_all_are_there_with_the_releases_version(release, packages):
    assert sorted(name for name in packages if not name.endswith("-dbgsym")) == NAMES
    for package in packages.values():
        assert field(package, "Version").endswith(SUFFIX[release])


def test_lintian_finds_no_error(packages):
    run("lintian", "--fail-on", "error", "--suppress-tags", "bad-distribution-in-changes-file", *map(str, packages.values()))


def test_two_builds_are_the_same_bit_by_bit(release, packages):
    first = digests(packages)
    assert digests(build(release)) == first


def test_a_verifier_needs_no_xen(chroot, packages):
    chroot.install(packages["xen-vtpm-verifier"])
    installed = chroot.sh("dpkg-query -W -f '${Package}\\n'")
    assert "libxen" not in installed and "xen-utils" not in installed and "libtpms" not in installed
    assert "attestation" in chroot.sh("xen-vtpm --help")
    assert chroot.sh("xen-vtpm status", status=6)
    words = "COMP_WORDS=(xen-vtpm group ch); COMP_CWORD=2; _xen_vtpm; echo ${COMPREPLY[@]}"
    assert chroot.sh(f"bash -c '. /usr/share/bash-completion/completions/xen-vtpm; {words}'") == "check-recovery\n"


def test_it_installs_without_xen_and_without_systemd_and_goes(chroot, packages):
    chroot.install(packages["xen-vtpm"])
    assert "xen-vtpm" in chroot.sh("getent passwd xen-vtpm")
    assert chroot.sh("systemctl is-enabled xen-vtpmd xen-vtpm-managerd") == "enabled\nenabled\n"
    chroot.sh("apt-get install --reinstall -y --no-install-recommends /root/xen-vtpm_*.deb")
    chroot.sh("dpkg --purge xen-vtpm; test ! -e /etc/xen-vtpm")
    assert chroot.sh("dpkg --audit") == ""
