#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""In a guest: NV writes of numbered values, and what became of them.

    nv_writer.py write SECONDS    one after the other, each noted before and after; ends early if the TPM goes
    nv_writer.py check            the NV index holds a whole value, none older than the last acknowledged one
"""

import os
import pathlib
import struct
import sys
import time

INDEX = 0x01500030
SIZE = 512
LOG = pathlib.Path("/root/nv.log")
PASSWORD = bytes.fromhex("00000009400000090000000000")


def execute(tpm, code, handles, parameters):
    body = struct.pack(f">{len(handles)}I", *handles) + PASSWORD + parameters
    os.write(tpm, struct.pack(">HII", 0x8002, 10 + len(body), code) + body)
    response = os.read(tpm, 4096)
    return struct.unpack(">I", response[6:10])[0], response[16:]


def value(number):
    return struct.pack("<Q", number) * (SIZE // 8)


def noted():
    """The last acknowledged and the last attempted number."""
    numbers = {"acknowledged": 0, "attempted": 0}
    for line in LOG.read_text().splitlines() if LOG.exists() else []:
        what, number = line.split()
        numbers[what] = int(number)
    return numbers["acknowledged"], numbers["attempted"]


def write(tpm, seconds):
    _, number = noted()
    end = time.monotonic() + seconds
    with LOG.open("a", buffering=1) as log:
        while time.monotonic() < end:
            number += 1
            log.write(f"attempted {number}\n")
            try:
                code, _ = execute(tpm, 0x137, (INDEX, INDEX), struct.pack(">H", SIZE) + value(number) + b"\0\0")
            except OSError as error:
                print(f"the TPM is gone: {error}")
                return
            if code == 0:
                log.write(f"acknowledged {number}\n")


def check(tpm):
    acknowledged, attempted = noted()
    code, answer = execute(tpm, 0x14E, (INDEX, INDEX), struct.pack(">HH", SIZE, 0))
    data = answer[:SIZE]
    number = struct.unpack("<Q", data[:8])[0] if code == 0 else None
    if code != 0 or data != value(number) or not acknowledged <= number <= attempted:
        sys.exit(f"code {code:#x}, {number}, acknowledged {acknowledged}, attempted {attempted}: {data.hex()}")
    with LOG.open("a") as log:
        log.write(f"acknowledged {number}\n")  # what was read once is there for good
    print(f"{number} of {acknowledged}..{attempted}")


if __name__ == "__main__":
    device = os.open("/dev/tpm0", os.O_RDWR)
    if sys.argv[1] == "write":
        write(device, float(sys.argv[2]))
    else:
        check(device)
