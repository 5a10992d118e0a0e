# SPDX-License-Identifier: Apache-2.0
"""A backend that answers what it likes, and the driver of scripts/kernel-series in the newest Linux."""

import pytest

from test_hostile_backend import *  # noqa: F403
from test_hostile_backend import victim  # noqa: F401
from test_mainline import guest  # noqa: F401

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def attacked(guest):  # noqa: F811
    return guest
