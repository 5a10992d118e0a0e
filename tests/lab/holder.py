#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""In a guest: keeps one descriptor of /dev/tpm0 open, asks for random bytes five times a second, and notes in
/root/holder.log what came of it: "ok", or the name of the error."""

import errno
import os
import time

GET_RANDOM = bytes.fromhex("80010000000c0000017b0010")

device = os.open("/dev/tpm0", os.O_RDWR)
with open("/root/holder.log", "w", buffering=1) as log:
    while True:
        try:
            os.write(device, GET_RANDOM)
            response = os.read(device, 4096)
            log.write("ok\n" if response[6:10] == bytes(4) else response.hex() + "\n")
        except OSError as error:
            log.write(errno.errorcode[error.errno] + "\n")
        time.sleep(0.2)
