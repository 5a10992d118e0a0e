# SPDX-License-Identifier: Apache-2.0
"""A backend that answers what it likes, and the driver in a kernel that watches memory, locks and contexts (tests/lab/kernel/debug.config)."""

import pytest

from test_hostile_backend import *  # noqa: F403
from test_hostile_backend import victim  # noqa: F401

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def attacked(lab):  # noqa: F811
    """PVH: Linux 6.1 has no KASAN in PV guests."""
    lab.create("attacked", "--type", "pvh", "--kernel", "debug")
    lab.guest("attacked", "mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug; echo clear > /sys/kernel/debug/kmemleak")
    yield "attacked"
    lab.destroy("attacked")


def test_nothing_has_leaked(victim):  # noqa: F811
    """An object counts as leaked when two scans have not found it, and five seconds old."""
    victim.sh("sleep 6; echo scan > /sys/kernel/debug/kmemleak; echo scan > /sys/kernel/debug/kmemleak", timeout=600)
    assert victim.sh("cat /sys/kernel/debug/kmemleak").stdout == ""
