# SPDX-License-Identifier: Apache-2.0
"""machine_state.py save|load SOCKET FILE: QEMU's state without the machine's memory, which lies in a file of its own
(docs/lab.md). SOCKET is QEMU's monitor (QMP). `save` leaves QEMU stopped, `load` leaves the machine running."""

import json
import shlex
import socket
import sys
import time

LIMIT = 120  # seconds: one takes a fraction of a second


class Monitor:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r")
        self.lines.readline()  # the greeting
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        for line in self.lines:
            answer = json.loads(line)
            if "error" in answer:
                sys.exit(f"QEMU refuses {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        sys.exit(f"QEMU ended at {command}")

    def migrate(self, command, uri):
        self("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
        self(command, uri=f"exec:{uri}")
        deadline = time.monotonic() + LIMIT
        while (migration := self("query-migrate")).get("status") != "completed":
            if migration.get("status") in ("failed", "cancelled") or time.monotonic() > deadline:
                sys.exit(f"QEMU's state cannot be moved: {migration}")
            time.sleep(0.02)


verb, path, file = sys.argv[1:]
monitor = Monitor(path)
if verb == "save":
    monitor.migrate("migrate", f"cat > {shlex.quote(file)}")
else:
    monitor.migrate("migrate-incoming", f"cat {shlex.quote(file)}")
    # A machine that was saved while it ran goes on by itself.
    while monitor("query-status")["status"] != "running":
        time.sleep(0.02)
