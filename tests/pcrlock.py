# SPDX-License-Identifier: Apache-2.0
"""What `systemd-pcrlock log` prints."""

import re


def marks(log):
    """Of each PCR: whether its value is the log's, all records are recognised, nothing that is expected is missing."""
    return {int(pcr): tuple(mark == "✓" for mark in marks)
            for pcr, *marks in re.findall(r"^ *(\d+) .*? ([✓✗]) ([✓✗]) ([✓✗]) ", log.split("COUNT")[-1], re.M)}
