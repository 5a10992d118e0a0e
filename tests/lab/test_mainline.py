# SPDX-License-Identifier: Apache-2.0
"""The driver of scripts/kernel-series, built into the newest Linux: the tests of test_driver.py that need no module. IMA
measures meanwhile, so the kernel uses the TPM too."""

import pytest

import test_driver
from lab import check_log
from test_driver import Driven

pytestmark = pytest.mark.long

WITH_A_MODULE = ("test_the_module_comes_and_goes_many_times", "test_rmmod_does_not_hang_when_the_backend_is_dead",
                 "test_the_event_log_comes_back_also_when_somebody_has_it_open", "test_unbinding_does_not_wait_for_a_command_that_takes_long")


@pytest.fixture(scope="module", params=["pv", "pvh"])
def guest(request, lab):
    lab.renew()
    name = f"m{request.param}"
    lab.create(name, "--type", request.param, "--kernel", "mainline")
    yield name
    lab.destroy(name)


@pytest.fixture(scope="module")
def driven(lab, guest):
    """IMA keeps the chip that it found at boot, also when its device has gone. On a busy machine it may have found none: the
    backend connects too late."""
    return Driven(lab, guest, attached=0 if "TPM-bypass" in lab.guest(guest, "dmesg").stdout else 1)


def test_it_is_the_newest_linux_with_the_driver_built_in(lab, guest):
    assert int(lab.guest(guest, "uname -r").stdout.split(".")[0]) >= 7
    assert "(builtin)" in lab.guest(guest, "modinfo -n xen-tpmfront").stdout


def test_the_kernel_shows_the_log_of_what_was_extended_before_it_ran(lab, guest):
    pcrs = "sha256:0,1,2,3,4,5,6,7"
    values = lab.pcrs(guest, pcrs)
    assert lab.replayed(guest, pcrs) == values
    assert len(values) == 8 and all(int(value, 16) for value in values.values()), values


globals().update({name: test for name, test in vars(test_driver).items()
                  if name.startswith("test_") and name not in WITH_A_MODULE})


def test_the_kernel_has_not_complained(lab, guest):
    lab.run("guest", "start", guest, timeout=600)
    check_log(lab.run("log", guest).stdout)
