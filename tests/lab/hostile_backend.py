#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A vTPM backend in dom0's user space, in xen-vtpmd's place: real grants, a real event channel, the real xenstore.

    hostile_backend.py DOMID

Serves the domain's first vTPM from dom0's own /dev/tpm0, honestly but for TPM2_GetRandom of 16 bytes (the test's: the
kernel's hwrng, which asks when it likes, wants 64), which it answers as the file /run/hostile-backend says (a function
below; "all" before it: so is any command). Notes in /run/hostile-backend.log how many bytes of an earlier message a
request found in the page.
"""

import fcntl
import mmap
import os
import pathlib
import struct
import sys
import time

from xen_wire import CANCEL, FINISH, IDLE, SUBMIT, EventChannel, Xenstore, ioctl_number, lasting

MAP_GRANT_REF = ioctl_number("G", 0, 24)  # include/uapi/xen/gntdev.h
MODE = pathlib.Path("/run/hostile-backend")
GET_RANDOM_16 = bytes.fromhex("80010000000c0000017b0010")
SHUTDOWN = 0x145
SUCCESS = bytes.fromhex("80010000000a00000000")
INITIALISING, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED = "1", "2", "3", "4", "5", "6"


class Backend:
    def __init__(self, domain, log):
        self.domain, self.log = domain, log
        self.store = Xenstore()
        self.own = f"/local/domain/0/backend/vtpm/{domain}/0"
        self.front = f"/local/domain/{domain}/device/vtpm/0"
        self.tpm = os.open("/dev/tpm0", os.O_RDWR)
        self.events = self.page = None
        self.answers = {verb.__name__: verb for verb in (
            honest, short, long, huge, too_little, too_much, extra_pages, changing, scribbling, foreign_state,
            no_answer, storm, leave)}

    def run(self):
        while True:
            state = self.store.read(self.front + "/state")
            if self.page is None and state in (INITIALISED, CONNECTED):
                self.attach()
            elif self.page is not None and state in (CLOSING, CLOSED):
                self.detach(CLOSED)
            elif self.page is not None and state == INITIALISING:
                self.detach(INIT_WAIT)
            elif self.page is None and state == INITIALISING:
                self.say(INIT_WAIT)
            if self.events is None:
                time.sleep(0.1)
            elif self.events.wait(0.5) and self.page[4] == SUBMIT:
                self.serve()
            elif self.page is not None and self.page[4] == CANCEL:
                self.publish(IDLE)

    def say(self, state):
        self.store.write(self.own + "/state", state)

    def attach(self):
        grants = os.open("/dev/xen/gntdev", os.O_RDWR)
        reference = int(self.store.read(self.front + "/ring-ref"))
        request = bytearray(struct.pack("<IIQII", 1, 0, 0, self.domain, reference))
        fcntl.ioctl(grants, MAP_GRANT_REF, request)
        self.page = mmap.mmap(grants, 4096, offset=struct.unpack("<IIQII", request)[2])
        os.close(grants)
        self.events = EventChannel(self.domain, int(self.store.read(self.front + "/event-channel")))
        self.store.write(self.own + "/feature-protocol-v2", 1)
        self.say(CONNECTED)

    def detach(self, state):
        self.say(state)
        self.page.close()
        self.events.close()
        self.page = self.events = None

    def serve(self):
        size = struct.unpack("<I", self.page[0:4])[0]
        request = bytes(self.page[8:8 + size])
        residue = 4088 - size - self.page[8 + size:4096].count(0)
        code = struct.unpack(">I", request[6:10])[0]
        self.log.write(f"{code:#x} residue {residue}\n")
        response = SUCCESS if code == SHUTDOWN else self.execute(request)
        *everything, mode = MODE.read_text().split()
        self.answers[mode if everything or request == GET_RANDOM_16 else "honest"](self, response)

    def execute(self, request):
        os.write(self.tpm, request)
        return os.read(self.tpm, 4096)

    def publish(self, state):
        self.page[4] = state
        self.events.notify()

    def put(self, response, length=None, extra=0):
        self.page[8:8 + len(response)] = response
        self.page[0:4] = struct.pack("<I", len(response) if length is None else length)
        self.page[7] = extra

    def answer(self, response, length=None, extra=0):
        self.put(response, length, extra)
        self.publish(FINISH)


def honest(backend, response):
    backend.answer(response)


def short(backend, response):
    backend.answer(response[:9])


def long(backend, response):
    backend.answer(response, length=4089)


def huge(backend, response):
    backend.answer(response, length=0xFFFFFFFF)


def too_little(backend, response):
    """The message says that it is longer than the page says."""
    backend.answer(response[:2] + struct.pack(">I", len(response) + 1) + response[6:])


def too_much(backend, response):
    backend.answer(response[:2] + struct.pack(">I", 10) + response[6:])


def extra_pages(backend, response):
    backend.answer(response, extra=1)


def changing(backend, response):
    """The length changes while it is read, and after it was judged."""
    backend.answer(response)
    for _ in lasting(1):
        backend.page[0:4] = b"\xff\xff\xff\xff"
        backend.page[0:4] = struct.pack("<I", len(response))


def scribbling(backend, response):
    """Events and nonsense in every field before the answer is finished."""
    for _ in range(20):
        backend.put(b"\xff" * 64, length=0xFFFFFFFF, extra=255)
        backend.events.notify()
        time.sleep(0.01)
    backend.answer(response)


def foreign_state(backend, response):
    for state in (CANCEL, 4, 77, 255):
        backend.publish(state)
        time.sleep(0.1)
    backend.answer(response)


def no_answer(backend, response):
    backend.publish(IDLE)


def storm(backend, response):
    """Events without end, also after the answer."""
    sent = 0
    backend.answer(response)
    for sent in lasting(10):
        backend.events.notify()
    backend.log.write(f"storm {sent}\n")


def leave(backend, response):
    """Closes in the middle of a command, and offers itself again."""
    backend.detach(CLOSING)
    time.sleep(1)
    backend.say(CLOSED)
    time.sleep(1)
    MODE.write_text("honest")
    backend.say(INIT_WAIT)


if __name__ == "__main__":
    with open("/run/hostile-backend.log", "w", buffering=1) as log:
        Backend(int(sys.argv[1]), log).run()
