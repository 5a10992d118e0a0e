#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A vTPM frontend in a guest's user space, which does as it pleases: real grants, a real event channel, the real
xenstore. Runs in a guest without a vTPM driver. Each verb ends with status 0 if the backend behaved.

    hostile_frontend.py connect|page|flood|states|no_ring|xenstore|vanish
"""

import fcntl
import mmap
import os
import random
import struct
import subprocess
import sys
import time

from xen_wire import CANCEL, FINISH, SUBMIT, EventChannel, Xenstore, ioctl_number, lasting, wait_for

DEVICE = "device/vtpm/0"
GET_RANDOM = bytes.fromhex("80010000000c0000017b0010")
BAD_SIZE = bytes.fromhex("80010000000a00000142")  # TPM_RC_COMMAND_SIZE
ALLOC_GREF = ioctl_number("G", 5, 24)  # include/uapi/xen/gntalloc.h


class Frontend:
    def __init__(self):
        subprocess.run(["modprobe", "-a", "xen-gntalloc", "xen-evtchn"], check=True)
        self.store = Xenstore()
        self.backend = self.store.read(self.own("backend"))
        self.grants = os.open("/dev/xen/gntalloc", os.O_RDWR)
        request = bytearray(struct.pack("<HHIQII", 0, 1, 1, 0, 0, 0))  # dom0, writable, one page
        fcntl.ioctl(self.grants, ALLOC_GREF, request)
        _, _, _, index, self.ring_ref, _ = struct.unpack("<HHIQII", request)
        self.page = mmap.mmap(self.grants, 4096, offset=index)
        self.events = EventChannel(0)

    def own(self, key):
        return f"{DEVICE}/{key}"

    def backend_state(self):
        return self.store.read(self.backend + "/state")

    def initialise(self, **otherwise):
        keys = {"ring-ref": self.ring_ref, "event-channel": self.events.port, "feature-protocol-v2": 1, "state": 3}
        for key, value in (keys | otherwise).items():
            self.store.write(self.own(key), value)

    def connect(self, limit=60):
        if self.store.read(self.own("state")) != "1":  # left connected by a former run
            self.store.write(self.own("state"), 6)
            wait_for(lambda: self.backend_state() == "6", "the backend closes", limit)
        self.initialise()
        wait_for(lambda: self.backend_state() == "4", "the backend connects", limit)
        self.store.write(self.own("state"), 4)
        return self

    def header(self, length, state, locality=0, extra=0):
        self.page[0:4] = struct.pack("<I", length)
        self.page[5:8] = bytes((locality, 0, extra))
        self.page[4] = state

    def notify(self):
        self.events.notify()

    def wait_state(self, left, limit=60):
        """Until the backend has replaced the state `left`."""
        deadline = time.monotonic() + limit
        while self.page[4] == left:
            if time.monotonic() > deadline:
                raise AssertionError(f"no answer to state {left} within {limit} s")
            self.events.wait(1)
        return self.page[4]

    def submit(self, command, length=None, extra=0, locality=0):
        offset = 8 + 4 * extra
        self.page[offset:offset + len(command)] = command
        self.header(len(command) if length is None else length, SUBMIT, locality, extra)
        self.notify()
        if self.wait_state(SUBMIT) != FINISH:
            raise AssertionError(f"state {self.page[4]} instead of a response")
        size = struct.unpack("<I", self.page[0:4])[0]
        return bytes(self.page[offset:offset + size])

    def check_alive(self):
        response = self.submit(GET_RANDOM)
        if len(response) != 28 or response[6:10] != bytes(4):
            raise AssertionError(f"GetRandom: {response.hex()}")


def connect():
    Frontend().connect(limit=120).check_alive()


def page():
    """Lengths, sizes, states and extra pages that no driver writes."""
    guest = Frontend().connect()
    for length in (0, 9, 11, 13, 4089, 4096, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        response = guest.submit(GET_RANDOM, length=length)
        if response != BAD_SIZE:
            raise AssertionError(f"length {length}: {response.hex()}")
        guest.check_alive()
    for claimed in (0, 9, 11, 13, 4088, 0xFFFFFFFF):
        if guest.submit(GET_RANDOM[:2] + struct.pack(">I", claimed) + GET_RANDOM[6:]) != BAD_SIZE:
            raise AssertionError(f"a header that claims {claimed}")
        guest.check_alive()
    for extra in (1, 128, 255):
        if len(guest.submit(GET_RANDOM, extra=extra)) != 28:
            raise AssertionError(f"{extra} extra pages")
        if guest.submit(GET_RANDOM, length=4089 - 4 * extra, extra=extra) != BAD_SIZE:
            raise AssertionError(f"{extra} extra pages, and data beyond the page")
    for locality in (1, 4, 32, 255):
        if guest.submit(GET_RANDOM, locality=locality)[6:10] != bytes.fromhex("00000907"):
            raise AssertionError(f"locality {locality}")
    for state in (0, 2, 4, 5, 77, 128, 255):
        guest.header(len(GET_RANDOM), state)
        guest.notify()
        time.sleep(0.3)
        if guest.page[4] != state:
            raise AssertionError(f"the backend answered to state {state}")
    guest.check_alive()
    guest.header(len(GET_RANDOM), CANCEL)
    guest.notify()
    if guest.wait_state(CANCEL) != 0:
        raise AssertionError("a cancel without a command")
    guest.check_alive()


def flood():
    """Events without end, and a header that changes while it is read."""
    guest = Frontend().connect()
    sent = 0
    for sent in lasting(5):
        guest.page[0:64] = random.randbytes(64)
        guest.page[4] = random.choice((SUBMIT, CANCEL, random.randrange(256)))
        guest.notify()
    print(f"{sent} events")
    # What was submitted last may still be answered, into the page that we are about to use.
    time.sleep(2)
    guest.check_alive()


def states():
    """The state goes anywhere, at any pace, and the keys that are not the backend's to read are rewritten."""
    guest = Frontend().connect()
    written = 0
    for _ in lasting(8):
        written += guest.store.write(guest.own("state"), random.choice(("0", "1", "2", "3", "4", "5", "6", "7", "9", "")))
        guest.store.write(guest.own(random.choice(("backend", "backend-id", "handle", "uuid"))), random.randbytes(9).hex())
        time.sleep(random.choice((0, 0, 0.01, 0.1, 0.3)))
    guest.store.write(guest.own("backend"), guest.backend)
    print(f"{written} states")


def no_ring():
    """What no grant and no event channel stands behind: of a frontend that has ended, or of a hostile one."""
    guest = Frontend().connect()
    for key, value in (("ring-ref", 99999), ("event-channel", 1000), ("event-channel", "")):
        guest.store.write(guest.own("state"), 6)
        wait_for(lambda: guest.backend_state() == "6", "the backend closes", 60)
        guest.store.write(guest.own("state"), 1)
        wait_for(lambda: guest.backend_state() == "2", "the backend waits", 60)
        guest.initialise(**{key: value})
        wait_for(lambda: guest.backend_state() == "5", f"the backend closes, with {key} {value}", 60)
    guest.connect()
    guest.check_alive()


def xenstore():
    """Every key of our directory, any value, for ten seconds."""
    guest = Frontend().connect()
    keys = ("ring-ref", "event-channel", "feature-protocol-v2", "state", "backend-id", "backend", "handle", "uuid", "x")
    values = ("", "-1", "0", "3", "4", "5", "6", "1", "4294967295", "4294967296", "8 ", "../../0", "9" * 1000,
              b"\xff\0\x01", str(guest.ring_ref), str(guest.events.port))
    written = 0
    for _ in lasting(10):
        key = random.choice(keys)
        written += guest.store.write(guest.own(key), random.choice(values))
        if random.random() < 0.02:
            guest.store.remove(guest.own(key))
    print(f"{written} writes")


def vanish():
    """Our directory goes as a whole, with the ring in use; the grant too."""
    guest = Frontend().connect()
    guest.check_alive()
    guest.header(len(GET_RANDOM), SUBMIT)
    guest.store.remove(DEVICE)
    guest.notify()
    time.sleep(1)
    guest.page.close()


if __name__ == "__main__":
    {verb.__name__: verb for verb in (connect, page, flood, states, no_ring, xenstore, vanish)}[sys.argv[1]]()
