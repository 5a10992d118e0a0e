# SPDX-License-Identifier: Apache-2.0
"""Sources include what is below them only, and no two of them mean different types by one name. A library of meson's
cannot say the one, since every folder sees all headers, and no linker the other."""

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


TYPE = re.compile(r"^(?:namespace (?:(\S+) )?\{|(\})  // namespace|(?:struct|class|enum class) (\w+)(?!\w|::)[^;]*\{)")


def types_of(text):
    """Those that other sources could mean, with their namespaces: as clang-format has them."""
    namespaces = []
    for line in text.splitlines():
        if not (found := TYPE.match(line)):
            continue
        if found[2]:
            namespaces.pop()
        elif not found[3]:
            namespaces.append(found[1] or "")
        elif "" not in namespaces:
            yield "::".join([*namespaces, found[3]])


def test_a_name_of_a_type_is_one_type():
    places = {}
    for path in sources():
        for name in types_of((ROOT / path).read_text()):
            places.setdefault(name, []).append(path)
    assert len(places) > 300
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_types_that_no_other_source_can_mean_are_left_out():
    text = ("namespace vtpm {\nclass Declared;\nstruct Here {\n};\nnamespace {\nstruct Hidden {\n};\n}  // namespace\n"
            "enum class There : int { kOne };\n}  // namespace vtpm\nnamespace vtpm::pool {\nclass Sub final : public Here {\n};\n")
    assert list(types_of(text)) == ["vtpm::Here", "vtpm::There", "vtpm::pool::Sub"]


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
