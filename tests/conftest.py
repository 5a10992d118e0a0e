# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import subprocess

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "long: skipped unless XEN_VTPM_TEST_LONG=yes, as scripts/test --all sets it")


def pytest_collection_modifyitems(items):
    if os.environ.get("XEN_VTPM_TEST_LONG") != "yes":
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes long; run by scripts/test --all"))


@pytest.fixture(scope="session")
def linux():
    """Debian's linux-source-6.1, unpacked."""
    program = pathlib.Path(__file__).parent / "lab/kernel/source"
    return pathlib.Path(subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
