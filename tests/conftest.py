# SPDX-License-Identifier: Apache-2.0
import pathlib
import subprocess

import pytest


@pytest.fixture(scope="session")
def linux():
    """Debian's linux-source-6.1, unpacked."""
    program = pathlib.Path(__file__).parent / "lab/kernel/source"
    return pathlib.Path(subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
