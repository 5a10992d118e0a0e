# SPDX-License-Identifier: Apache-2.0
"""The lab tests: a real Xen, driven by scripts/lab. Each file of tests begins with a lab that nobody has used."""

import os

import pytest

from lab import Lab


@pytest.fixture(scope="session")
def machine():
    """XEN_VTPM_TEST_LAB names it; with XEN_VTPM_TEST_KEEP=yes a running one is used, and left running."""
    instance = Lab(os.environ.get("XEN_VTPM_TEST_LAB", "test"))
    keep = os.environ.get("XEN_VTPM_TEST_KEEP") == "yes"
    if not keep:
        instance.run("down", check=False)
    yield instance
    if not keep:
        instance.run("down", check=False)


@pytest.fixture(scope="module")
def lab(machine):
    machine.renew()
    return machine


@pytest.fixture(scope="module", params=["pv", "pvh"])
def guest(request, lab):
    """A running guest of each type with our driver and a TPM 2.0, which nobody has used; its name."""
    lab.renew()
    return request.param
