# SPDX-License-Identifier: Apache-2.0
"""Sources include what is below them only. A library of meson's cannot say so: every folder sees all headers."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Each folder, from the lowest up, and the folders that it may include beside itself.
BELOW = {
    "base": "",
    "shared-protocol": "base",
    "launch": "base shared-protocol",
    "backend": "base shared-protocol launch",
    "manager/crypto": "base",
    "manager/tpm": "base manager/crypto",
    "manager/ca": "base shared-protocol manager/crypto manager/tpm",
    "manager/boot": "base launch manager/crypto manager/tpm",
    "manager/attestation": "base shared-protocol launch manager/crypto manager/tpm manager/ca manager/boot",
    "manager/hardware_tpm": "base shared-protocol manager/crypto manager/tpm",
    "manager/store": "base shared-protocol manager/crypto manager/tpm",
    "manager/pool": "base",
    "manager/groups": "base shared-protocol manager/crypto manager/tpm manager/ca manager/boot manager/attestation"
                      " manager/hardware_tpm manager/store",
    "manager/vtpm": "base shared-protocol launch manager/crypto manager/tpm manager/ca manager/boot manager/attestation manager/store"
                    " manager/groups",
    "manager/control": "base shared-protocol manager/crypto manager/tpm manager/ca manager/boot manager/attestation manager/store"
                       " manager/groups manager/vtpm",
    "manager": "base shared-protocol manager/crypto manager/tpm manager/boot manager/hardware_tpm manager/store manager/groups"
               " manager/vtpm manager/control",
    # On machines that have neither daemon nor TPM, too.
    "manager/cli": "base shared-protocol launch manager/crypto manager/tpm manager/ca manager/boot manager/attestation",
}
GENERATED = {"version.hpp", "build_date.hpp"}
QUOTED = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def folder_of(path):
    """The longest entry of BELOW that holds the file."""
    return max((name for name in BELOW if path.startswith(name + "/")), key=len, default=None)


def upward(path, text):
    """The includes of a source that it must not have."""
    mine = folder_of(path)
    allowed = {mine, *BELOW[mine].split()}
    return [name for name in QUOTED.findall(text) if name not in GENERATED and folder_of(name) not in allowed]


def sources():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.cpp", "*.hpp", "*.h"], cwd=ROOT,
                            check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return [path for path in listed if folder_of(path) and (ROOT / path).exists()]


def test_no_source_includes_what_is_above_it():
    found = {path: names for path in sources() if (names := upward(path, (ROOT / path).read_text()))}
    assert not found


def test_every_folder_is_a_layer():
    folders = {str(path.relative_to(ROOT)) for path in (ROOT / "manager").iterdir() if path.is_dir()}
    assert folders <= set(BELOW)


def test_the_layers_have_no_circle():
    seen = set()
    for name, below in BELOW.items():
        assert set(below.split()) <= seen
        seen.add(name)


@pytest.mark.parametrize("path, include", [
    ("manager/store/store.hpp", "manager/groups/manifest.hpp"),
    ("manager/tpm/pcr_values.hpp", "manager/hardware_tpm/esys.hpp"),
    ("manager/groups/inventory.hpp", "manager/config.hpp"),
    ("manager/cli/main.cpp", "manager/store/store.hpp"),
    ("backend/main.cpp", "manager/tpm/pcr_values.hpp"),
    ("manager/main.cpp", "backend/upgrade.hpp"),
    ("base/result.hpp", "tests/catch.hpp"),
])
def test_an_upward_include_is_found(path, include):
    assert upward(path, f'#include <vector>\n#include "{include}"\n') == [include]
