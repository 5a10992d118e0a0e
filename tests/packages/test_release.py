# SPDX-License-Identifier: Apache-2.0
"""scripts/release: the same commit gives the same archive, and nothing is released that is not committed or of one version."""

import json
import pathlib
import subprocess
import tarfile

import pytest

from debian_root import run

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path):
    run("git", "clone", "-q", str(ROOT), str(tmp_path / "tree"))
    return tmp_path / "tree"


def release(tree, status=0):
    return run(str(tree / "scripts/release"), status=status)


def test_it_is_the_same_each_time_and_complete(tree):
    first = release(tree)
    assert release(tree) == first
    tracked = run("git", "-C", str(tree), "ls-files").splitlines()
    [archive] = (tree / "build/release").glob("*.tar.xz")
    with tarfile.open(archive) as packed:
        names = [member.name.partition("/")[2] for member in packed.getmembers() if member.isfile()]
    assert sorted(names) == sorted(tracked)
    [sbom] = (tree / "build/release").glob("*.spdx.json")
    assert sorted(file["fileName"][2:] for file in json.loads(sbom.read_text())["files"]) == sorted(tracked)
    run("sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=tree / "build/release")


def test_what_is_not_committed_is_not_released(tree):
    (tree / "README.md").write_text("other")
    assert "not committed" in release(tree, status=1)


def test_all_versions_agree(tree):
    spec = tree / "kernel/dkms/xen-tpmfront-dkms.spec"
    spec.write_text(spec.read_text().replace("Version:", "Version: 9"))
    subprocess.run(["git", "-C", tree, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "x"], check=True)
    assert "the versions differ" in release(tree, status=1)
