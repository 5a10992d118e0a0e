# SPDX-License-Identifier: Apache-2.0
"""A backend that answers what it likes, and the driver of scripts/kernel-series in the newest Linux."""

import pytest

from test_hostile_backend import *  # noqa: F403
from test_hostile_backend import Victim, victim  # noqa: F401
from test_mainline import guest  # noqa: F401

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def attacked(lab, guest):  # noqa: F811
    """IMA keeps tpm0, the chip that it found at boot: the driver is bound anew for this backend, and so has another one."""
    return Victim(lab, guest, "tpm1")
