#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""killed_writers.py KILLS: processes that have the TPM make an RSA key are killed while it does. Somebody beside them extends
a PCR all the time, as IMA does: that never fails, and goes on after each kill. Prints how long the longest took to be gone
after its SIGKILL, in seconds."""

import os
import random
import signal
import sys
import threading
import time

PASSWORD = bytes.fromhex("00000009" "40000009" "0000" "00" "0000")
EXTEND = bytes.fromhex("8002" "00000041" "00000182" "00000010") + PASSWORD + bytes.fromhex("00000001" "000b") + b"\x5a" * 32
# TPM2_CreatePrimary in the null hierarchy: a storage key, RSA 2048, which is made anew and so takes a while.
PUBLIC = bytes.fromhex("0001" "000b" "00030472" "0000" "0006" "0080" "0043" "0010" "0800" "00000000" "0000")
PARAMETERS = (bytes.fromhex("0004" "0000" "0000") + len(PUBLIC).to_bytes(2, "big") + PUBLIC +
              bytes.fromhex("0000" "00000000"))
BODY = bytes.fromhex("40000007") + PASSWORD + PARAMETERS
CREATE = bytes.fromhex("8002") + (10 + len(BODY)).to_bytes(4, "big") + bytes.fromhex("00000131") + BODY


def exchange(device, command):
    os.write(device, command)
    return int.from_bytes(os.read(device, 4096)[6:10], "big")


def create():
    sys.exit(exchange(os.open("/dev/tpmrm0", os.O_RDWR), CREATE))


failures = []
ended = threading.Event()
extended = threading.Event()


def extend():
    device = os.open("/dev/tpmrm0", os.O_RDWR)
    while not ended.is_set():
        try:
            code = exchange(device, EXTEND)
            if code:
                failures.append(hex(code))
        except OSError as error:
            failures.append(str(error))
        extended.set()
        time.sleep(0.05)


began = time.monotonic()
if exchange(os.open("/dev/tpmrm0", os.O_RDWR), CREATE):
    sys.exit("the TPM makes no key")
duration = time.monotonic() - began

beside = threading.Thread(target=extend, daemon=True)
beside.start()
longest = 0
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        create()
    time.sleep(random.uniform(0, duration))
    os.kill(child, signal.SIGKILL)
    killed = time.monotonic()
    os.waitpid(child, 0)
    longest = max(longest, time.monotonic() - killed)
    extended.clear()
    if not extended.wait(60):
        sys.exit("after a kill nobody else gets an answer")
ended.set()
beside.join()
print(longest)
sys.exit(f"extends failed: {failures}" if failures else 0)
