# SPDX-License-Identifier: Apache-2.0
"""The driver's source: the kernel's style, its place in a kernel tree, and the newest kernel that Debian has."""

import filecmp
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = [*sorted((ROOT / "kernel").glob("*.[ch]")), ROOT / "shared-protocol/tpmif.h",
           *sorted((ROOT / "tests/bench/pingpong").glob("*.c")), *sorted((ROOT / "tests/lab/hostile").glob("*.c"))]
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def run(*command, check=True, **options):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            **options)
    assert not check or result.returncode == 0, result.stdout[-6000:]
    return result


@pytest.fixture
def tree(linux, tmp_path):
    """The part of a kernel tree that scripts/kernel-tree changes, as it is in Linux."""
    tpm = tmp_path / "drivers/char/tpm"
    shutil.copytree(linux / "drivers/char/tpm", tpm, ignore=shutil.ignore_patterns("xen-tpmfront"))
    makefile = tpm / "Makefile"
    makefile.write_text(makefile.read_text().replace("+= xen-tpmfront/\n", "+= xen-tpmfront.o\n"))
    return tmp_path


def kernel_tree(verb, tree, check=True):
    return run(ROOT / "scripts/kernel-tree", verb, str(tree), check=check)


def difference(left, right):
    compared = filecmp.dircmp(left, right)
    return compared.left_only + compared.right_only + compared.diff_files


def test_checkpatch_finds_nothing(linux):
    # CAMELCASE: Xen's own names. LINUX_VERSION_CODE: what compat.h is for.
    run("scripts/checkpatch.pl", "--strict", "--ignore", "CAMELCASE,LINUX_VERSION_CODE", "--file", *map(str, SOURCES), cwd=linux)


def test_checkpatch_would_find_something(linux, tmp_path):
    bad = tmp_path / "bad.c"
    bad.write_text("// SPDX-License-Identifier: GPL-2.0-only\nint f( int a ) {\n  return a;\n}\n")
    assert run("scripts/checkpatch.pl", "--strict", "--file", str(bad), cwd=linux, check=False).returncode != 0


def test_kernel_tree_installs_updates_and_removes(tree, tmp_path):
    tpm, before = tree / "drivers/char/tpm", tmp_path / "before"
    shutil.copytree(tpm, before)
    kernel_tree("install", tree)
    assert sorted(difference(before, tpm)) == ["Makefile", "xen-tpmfront"]
    ours = tpm / "xen-tpmfront/xen-tpmfront.c"
    assert ours.read_bytes() == (ROOT / "kernel/xen-tpmfront.c").read_bytes()
    for text, age in (("older", 0), ("newer, of another tree", 2**32)):
        ours.write_text(text)
        os.utime(ours, (age, age))
        kernel_tree("install", tree)
        assert ours.read_bytes() == (ROOT / "kernel/xen-tpmfront.c").read_bytes()
    os.utime(ours, (0, 0))
    kernel_tree("install", tree)
    assert ours.stat().st_mtime == 0  # or the kernel would be linked anew
    kernel_tree("remove", tree)
    kernel_tree("remove", tree)
    assert difference(before, tpm) == []


def test_kernel_tree_refuses_what_is_no_kernel(tmp_path):
    result = kernel_tree("install", tmp_path, check=False)
    assert result.returncode == 1 and "no Linux source tree" in result.stdout
    makefile = tmp_path / "drivers/char/tpm/Makefile"
    makefile.parent.mkdir(parents=True)
    makefile.write_text("obj-y += tpm.o\n")
    result = kernel_tree("install", tmp_path, check=False)
    assert result.returncode == 1 and "has no line" in result.stdout
    assert makefile.read_text() == "obj-y += tpm.o\n"


def test_it_builds_without_a_warning(tmp_path):
    """W=1 and sparse; for the kernel whose headers are installed."""
    for part in ("Kbuild", "kernel", "shared-protocol"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    headers = max(pathlib.Path("/usr/src").glob("linux-headers-*-amd64"), key=lambda path: path.stat().st_mtime)
    log = run("make", "-C", str(headers), f"M={tmp_path}", "W=1", "C=2", "CHECK=sparse").stdout
    assert (tmp_path / "xen-tpmfront.ko").exists()
    assert "CHECK " in log and "warning:" not in log and "error:" not in log, log


@pytest.mark.parametrize("suite", [pytest.param("trixie", marks=pytest.mark.long), "sid"])
def test_it_builds_for_the_headers_of_a_newer_debian(tmp_path, suite):
    """In a root of that suite, with its compiler: Debian 13's Linux 6.12, and the newest."""
    if os.geteuid() != 0:
        pytest.skip("making a Debian root needs root")
    build = ('cp -r Kbuild kernel shared-protocol "$1/root/" && chroot "$1" sh -c '
             '"make -C /usr/src/linux-headers-*-amd64 M=/root W=1 && modinfo /root/xen-tpmfront.ko"')
    # perl: with W=1 Linux 6.12 looks at the comments of functions, and that is a perl program.
    log = run("mmdebstrap", "--quiet", "--variant=apt", "--include=gcc,make,kmod,perl,linux-headers-amd64",
              "--aptopt=Acquire::Check-Valid-Until false", "--aptopt=Acquire::Check-Date false", f"--customize-hook={build}",
              suite, "/dev/null", f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {suite} main", cwd=ROOT).stdout
    assert "vermagic:" in log and "alias:          xen:vtpm" in log
    assert "warning:" not in log
